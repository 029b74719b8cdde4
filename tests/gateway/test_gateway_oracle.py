"""Random graphs against a sequential oracle: the same result, in whatever order things end."""

import asyncio
import contextlib
from collections.abc import Mapping
from typing import Any

import hypothesis
from hypothesis import strategies as st

from services.gateway.calling import Policies, open_calls
from services.gateway.channels import ServiceChannel
from services.gateway.executor import Execution, execute
from serving.errors import NodeError
from tests.gateway.sums import MAX_NODES, SumCall, SumNode, sum_calls, sum_plan
from tests.virtual_time import run_virtually

Nodes = dict[str, SumNode]

FEW = hypothesis.settings(max_examples=60, deadline=None)


@st.composite
def graphs(draw: st.DrawFn) -> Nodes:
    """Up to 12 nodes; each reads some of those before it, takes its time, may fail."""
    nodes: Nodes = {}
    for index in range(draw(st.integers(1, MAX_NODES))):
        reads = draw(st.lists(st.sampled_from(sorted(nodes)), unique=True)) if nodes else []
        nodes[f"n{index}"] = SumNode(
            reads=tuple(reads),
            is_optional=draw(st.booleans()),
            stand_in=draw(st.none() | st.integers(1, 99)),
            is_conditional=draw(st.integers(0, 4)) == 0,
            seconds=draw(st.integers(0, 20)) / 100,
            fails=draw(st.integers(0, 2)) == 0,
            expected_ms=0,
            is_idempotent=(is_idempotent := draw(st.booleans())),
            retry=draw(st.sampled_from(["", "hot", "background"])) if is_idempotent else "",
        )
    return nodes


def oracle(nodes: Nodes, start: int, flag: bool) -> Mapping[str, int] | None:
    """Each node's sum, one after another; None when a required node fails for good."""
    sums: dict[str, int] = {}
    for name, node in nodes.items():
        if node.is_conditional and not flag:
            continue
        if not node.fails:
            sums[name] = 1 + start + sum(sums.get(other, 0) for other in node.reads)
        elif node.stand_in is not None:
            sums[name] = node.stand_in
        elif not node.is_optional:
            return None
    return sums


async def concurrently(
    nodes: Nodes, start: int, flag: bool, wanted: tuple[str, ...] = ()
) -> tuple[Execution | None, dict[str, SumCall]]:
    """Runs a graph; no execution when a required node failed. Nothing may run on afterwards."""
    plan = sum_plan(nodes)
    calls = sum_calls(plan, nodes)
    execution = None
    with contextlib.suppress(NodeError):
        request = plan.request(start=start, flag=flag)
        execution = await execute(plan, plan.select(wanted), calls, request, 1000.0)
    assert asyncio.all_tasks() == {asyncio.current_task()}
    return execution, calls


def set_fields(message: Any) -> dict[str, int]:
    return {field.name: value for field, value in message.ListFields()}


@FEW
@hypothesis.given(graphs(), st.integers(1, 9), st.booleans())
def test_result_equals_that_of_a_sequential_run(nodes: Nodes, start: int, flag: bool) -> None:
    execution, _ = run_virtually(concurrently(nodes, start, flag))
    expected = oracle(nodes, start, flag)
    assert (execution is None) == (expected is None)
    if execution is not None:
        assert set_fields(execution.response) == expected


@hypothesis.settings(FEW, max_examples=20)
@hypothesis.given(graphs(), st.lists(st.integers(1, 9), min_size=25, max_size=25))
def test_policies_change_no_result_and_call_no_node_more_often_than_they_may(
    nodes: Nodes, starts: list[int]
) -> None:
    run_virtually(with_policies(nodes, starts))


async def with_policies(nodes: Nodes, starts: list[int]) -> None:
    """Runs a graph again and again, so that budgets allow retries and second calls."""
    plan = sum_plan(nodes)
    calls = sum_calls(plan, nodes)
    channels = {"sums.Adder": ServiceChannel("sums.Adder", None)}  # type: ignore[arg-type]
    async with open_calls(
        {"sums": plan}, channels, Policies(), wire=lambda node: calls[node.name]
    ) as composed:
        for start in starts:
            before = {name: len(call.deadlines) for name, call in calls.items()}
            execution = None
            with contextlib.suppress(NodeError):
                request = plan.request(start=start, flag=True)
                execution = await execute(plan, plan.select(()), composed["sums"], request, 1000.0)
            expected = oracle(nodes, start, True)
            assert (execution is None) == (expected is None)
            if execution is not None:
                assert set_fields(execution.response) == expected
            for name, call in calls.items():
                assert len(call.deadlines) - before[name] <= most_calls(nodes[name])
    assert asyncio.all_tasks() == {asyncio.current_task()}


def most_calls(node: SumNode) -> int:
    """Attempts of its profile, each of which may be hedged."""
    return {"": 1, "hot": 2, "background": 4}[node.retry] * (1 + node.is_idempotent)


@FEW
@hypothesis.given(graphs())
def test_each_node_runs_at_most_once_and_after_all_that_it_reads(nodes: Nodes) -> None:
    _, calls = run_virtually(concurrently(nodes, 1, True))
    for name, call in calls.items():
        assert len(call.deadlines) <= 1
        for start, _ in call.runs:
            for other in nodes[name].reads:
                assert all(end <= start + 1e-9 for _, end in calls[other].runs)


@FEW
@hypothesis.given(graphs(), st.data())
def test_pruning_changes_nothing_of_what_is_left(nodes: Nodes, data: st.DataObject) -> None:
    wanted = tuple(data.draw(st.lists(st.sampled_from(sorted(nodes)), min_size=1, unique=True)))
    sound = {name: node if not node.fails else SumNode(node.reads) for name, node in nodes.items()}
    whole, _ = run_virtually(concurrently(sound, 1, True))
    pruned, calls = run_virtually(concurrently(sound, 1, True, wanted))
    everything = set_fields(whole.response)
    assert set_fields(pruned.response) == {name: everything[name] for name in wanted}
    assert set(pruned.runs) == {name for name in calls if calls[name].deadlines}


@FEW
@hypothesis.given(graphs(), st.floats(0, 0.5))
def test_a_cancel_at_any_time_leaves_nothing_running(nodes: Nodes, seconds: float) -> None:
    async def cancel_midway() -> None:
        task = asyncio.create_task(concurrently(nodes, 1, True))
        await asyncio.sleep(seconds)
        task.cancel()
        await asyncio.wait([task])
        assert asyncio.all_tasks() == {asyncio.current_task()}

    run_virtually(cancel_midway())


@FEW
@hypothesis.given(graphs(), st.integers(1, 300))
def test_no_call_starts_after_its_deadline_and_all_ends_by_the_callers(
    nodes: Nodes, deadline_ms: int
) -> None:
    async def within() -> None:
        plan = sum_plan(nodes, reserve_ms=5)
        calls = sum_calls(plan, nodes)
        deadline = deadline_ms / 1000
        with contextlib.suppress(NodeError):
            await execute(plan, plan.select(()), calls, plan.request(flag=True), deadline)
        assert asyncio.get_running_loop().time() <= max(0.0, deadline - 0.005) + 1e-9
        for call in calls.values():
            assert all(start < deadline for start, _ in call.runs)
            assert all(given <= deadline - 0.005 + 1e-9 for given in call.deadlines)

    run_virtually(within())
