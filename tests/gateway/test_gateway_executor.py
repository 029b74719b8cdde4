import asyncio

import grpc
import pytest

from fomofeed.gateway.v1 import orchestrator_service_pb2 as pb
from services.gateway.executor import Execution, execute
from serving.errors import NodeError
from tests.gateway.sums import SumCall, SumNode, sum_calls, sum_plan
from tests.virtual_time import now, virtual_time

DIAMOND = {
    "n0": SumNode(seconds=0.010),
    "n1": SumNode(seconds=0.030),
    "n2": SumNode(("n0", "n1"), seconds=0.005),
    "n3": SumNode(("n0",), seconds=0.100),
}


async def run(
    nodes: dict[str, SumNode],
    deadline: float = 100.0,
    wanted: tuple[str, ...] = (),
    flag: bool = False,
    reserve_ms: int = 0,
) -> tuple[Execution, dict[str, SumCall]]:
    """Runs a small graph from 0 on; returns what came of it and the calls."""
    plan = sum_plan(nodes, reserve_ms)
    calls = sum_calls(plan, nodes)
    request = plan.request(start=0, flag=flag)
    execution = await execute(plan, plan.select(wanted), calls, request, deadline)
    return execution, calls


def states(execution: Execution) -> dict[str, int]:
    return {name: run.report.state for name, run in execution.runs.items()}


@virtual_time
async def test_each_node_starts_when_its_own_inputs_are_there() -> None:
    _, calls = await run(DIAMOND)
    assert calls["n0"].runs == [(0, pytest.approx(0.010))]
    assert calls["n3"].runs == [(pytest.approx(0.010), pytest.approx(0.110))]
    assert calls["n2"].runs == [(pytest.approx(0.030), pytest.approx(0.035))]
    assert now() == pytest.approx(0.110)


@virtual_time
async def test_only_ancestors_of_what_is_wanted_run() -> None:
    execution, calls = await run(DIAMOND, wanted=("n2",))
    assert list(execution.runs) == ["n0", "n1", "n2"]
    assert not calls["n3"].runs
    assert not execution.response.HasField("n3")


@virtual_time
async def test_a_call_is_given_its_cap_or_what_the_caller_leaves_for_it() -> None:
    nodes = {
        "n0": SumNode(timeout_ms=40),
        "n1": SumNode(("n0",), timeout_ms=500, expected_ms=30),
        "n2": SumNode(("n1",), timeout_ms=500, expected_ms=20),
    }
    _, calls = await run(nodes, deadline=0.2, reserve_ms=10)
    assert calls["n0"].deadlines == [pytest.approx(0.040)]
    assert calls["n1"].deadlines == [pytest.approx(0.2 - 0.010 - 0.020)]
    assert calls["n2"].deadlines == [pytest.approx(0.2 - 0.010)]


@virtual_time
async def test_the_hundredth_by_which_grpc_rounds_long_timeouts_up_is_not_spent() -> None:
    _, calls = await run({"n0": SumNode(timeout_ms=60_000)}, deadline=10.0)
    assert calls["n0"].deadlines == [pytest.approx(9.9)]


@virtual_time
async def test_what_is_pruned_takes_no_time_from_the_rest() -> None:
    nodes = {"n0": SumNode(), "n1": SumNode(("n0",), expected_ms=90)}
    _, calls = await run(nodes, deadline=0.1, wanted=("n0",))
    assert calls["n0"].deadlines == [pytest.approx(0.1)]


@virtual_time
async def test_a_node_without_time_is_never_started() -> None:
    nodes = {"n0": SumNode(stand_in=7), "n1": SumNode(("n0",), expected_ms=90)}
    execution, calls = await run(nodes, deadline=0.05)
    assert not calls["n0"].deadlines
    report = execution.runs["n0"].report
    assert (report.state, report.attempts) == (pb.NODE_STATE_SUBSTITUTED, 0)
    assert report.budget_us < 0
    assert execution.response.n1 == 8


@virtual_time
async def test_a_call_that_overruns_its_deadline_is_cancelled() -> None:
    nodes = {"n0": SumNode(seconds=60, timeout_ms=40, stand_in=7)}
    execution, calls = await run(nodes)
    assert now() == pytest.approx(0.040)
    assert calls["n0"].cancelled == 1
    assert execution.runs["n0"].degradation is not None
    assert execution.runs["n0"].degradation.reason == "DEADLINE_EXCEEDED"


@virtual_time
async def test_a_required_node_that_fails_ends_the_request_and_the_others() -> None:
    nodes = {"n0": SumNode(fails=True, seconds=0.010), "n1": SumNode(seconds=60)}
    plan = sum_plan(nodes)
    calls = sum_calls(plan, nodes)
    with pytest.raises(NodeError) as error:
        await execute(plan, plan.select(()), calls, plan.request(), 100.0)
    assert (error.value.node, error.value.code) == ("n0", grpc.StatusCode.UNAVAILABLE)
    assert now() == pytest.approx(0.010)
    assert calls["n1"].cancelled == 1


@virtual_time
async def test_an_optional_node_that_fails_leaves_its_field_unset() -> None:
    nodes = {"n0": SumNode(fails=True, is_optional=True), "n1": SumNode(("n0",), is_optional=True)}
    execution, _ = await run(nodes)
    assert states(execution) == {"n0": pb.NODE_STATE_FAILED, "n1": pb.NODE_STATE_SUCCEEDED}
    assert not execution.response.HasField("n0")
    assert execution.response.n1 == 1
    lost = execution.runs["n0"].degradation
    assert lost is not None
    assert (lost.substitute, lost.confidence_factor) == ("", 1.0)


@virtual_time
async def test_a_substitute_stands_in_for_an_optional_node_too() -> None:
    nodes = {"n0": SumNode(fails=True, is_optional=True, stand_in=5), "n1": SumNode(("n0",))}
    execution, _ = await run(nodes)
    assert states(execution)["n0"] == pb.NODE_STATE_SUBSTITUTED
    assert (execution.response.n0, execution.response.n1) == (5, 6)


@virtual_time
async def test_a_node_whose_condition_is_false_is_skipped_without_degrading() -> None:
    nodes = {"n0": SumNode(is_conditional=True)}
    execution, calls = await run(nodes)
    assert states(execution) == {"n0": pb.NODE_STATE_SKIPPED}
    assert execution.runs["n0"].degradation is None
    assert not calls["n0"].runs
    execution, _ = await run(nodes, flag=True)
    assert states(execution) == {"n0": pb.NODE_STATE_SUCCEEDED}


@virtual_time
async def test_cancelling_a_request_cancels_every_running_node_at_once() -> None:
    nodes = {"n0": SumNode(seconds=60), "n1": SumNode(seconds=60), "n2": SumNode(("n0",))}
    plan = sum_plan(nodes)
    calls = sum_calls(plan, nodes)
    running = asyncio.create_task(execute(plan, plan.select(()), calls, plan.request(), 100.0))
    await asyncio.sleep(0.5)
    running.cancel()
    with pytest.raises(asyncio.CancelledError):
        await running
    assert now() == 0.5
    assert [calls[name].cancelled for name in nodes] == [1, 1, 0]
    assert asyncio.all_tasks() == {asyncio.current_task()}


@virtual_time
async def test_reports_are_told_as_nodes_end() -> None:
    plan = sum_plan(DIAMOND)
    told: list[tuple[str, float]] = []
    await execute(
        plan,
        plan.select(()),
        sum_calls(plan, DIAMOND),
        plan.request(),
        100.0,
        lambda report: told.append((report.node, round(now(), 3))),
    )
    assert told == [("n0", 0.01), ("n1", 0.03), ("n2", 0.035), ("n3", 0.11)]
