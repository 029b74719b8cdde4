"""Who gets a place of a node, who waits for one, and who is told to come back later."""

import asyncio

import grpc
import hypothesis
import pytest
from google.protobuf.message import Message
from hypothesis import strategies as st

from services.gateway.outcome import Outcome, failed
from services.gateway.policies.latency import LatencyWindow
from services.gateway.policies.limited import Limited
from services.gateway.policies.limiter import Limiter, LimiterConfig
from serving.request import CallFacts, Criticality, enter
from tests.gateway.scripts import ANSWER, FOREVER, REQUEST, Script
from tests.virtual_time import now, run_virtually, virtual_time

USUAL_S = 0.1


def learned(seconds: float = USUAL_S) -> LatencyWindow:
    window = LatencyWindow(seconds)
    for _ in range(20):
        window.add(seconds)
    return window


def limited(call: Script, places: int = 1, *, is_optional: bool = False, line: int = 99) -> Limited:
    limiter = Limiter(LimiterConfig(initial=places, least=places, most=places))
    return Limited(call, limiter, learned(), is_optional=is_optional, max_waiting=line)


async def ask(policy: Limited, deadline: float, criticality: Criticality) -> Outcome:
    enter(CallFacts(criticality=criticality))
    return await policy(REQUEST, deadline)


def asking(
    policy: Limited, deadline: float = FOREVER, criticality: Criticality = Criticality.CRITICAL
) -> asyncio.Task[Outcome]:
    return asyncio.create_task(ask(policy, deadline, criticality))


@virtual_time
async def test_who_finds_no_place_waits_and_the_earliest_deadline_goes_first() -> None:
    call = Script([(USUAL_S, ANSWER)])
    policy, ended = limited(call), []
    for name, deadline in (("first", 50.0), ("late", 40.0), ("early", 30.0)):
        asking(policy, deadline).add_done_callback(lambda _, name=name: ended.append((name, now())))
    await asyncio.sleep(1)
    assert ended == [
        ("first", pytest.approx(0.1)),
        ("early", pytest.approx(0.2)),
        ("late", pytest.approx(0.3)),
    ]


@virtual_time
async def test_who_could_not_be_answered_in_time_is_refused_at_once_and_told_when_to_come() -> None:
    call = Script([(USUAL_S, ANSWER)])
    policy = limited(call)
    running = [asking(policy) for _ in range(3)]
    await asyncio.sleep(0)
    refused = await policy(REQUEST, 0.25)
    assert now() == 0
    assert (refused.code, refused.attempts) == (grpc.StatusCode.RESOURCE_EXHAUSTED, 0)
    assert refused.retry_after_s == pytest.approx(3 * USUAL_S)  # one runs, two wait
    assert len(call.started) == 1
    await asyncio.wait(running)


@virtual_time
async def test_an_optional_node_says_that_it_was_skipped() -> None:
    policy = limited(Script([(USUAL_S, ANSWER)]), is_optional=True, line=0)
    running = asking(policy)
    await asyncio.sleep(0)
    assert (await policy(REQUEST, FOREVER)).reason == "SKIPPED_UNDER_LOAD"
    await running


@virtual_time
async def test_a_long_line_is_no_reason_to_refuse_who_has_the_time() -> None:
    call = Script([(USUAL_S, ANSWER)])
    policy = limited(call, places=4)
    outcomes = await asyncio.gather(*(policy(REQUEST, 30.0) for _ in range(90)))
    assert all(outcome.answer is not None for outcome in outcomes)
    assert now() == pytest.approx(3.0)  # three of four places are for this class


@virtual_time
async def test_critical_callers_pass_the_others_in_the_line() -> None:
    policy, ended = limited(Script([(USUAL_S, ANSWER)])), []
    for criticality in (*Criticality, *Criticality):
        task = asking(policy, criticality=criticality)
        task.add_done_callback(lambda _, criticality=criticality: ended.append(criticality))
    await asyncio.sleep(1)
    _, *others = ended  # the first found a free place
    assert others == sorted(others, reverse=True)


@virtual_time
async def test_leaving_the_line_leaves_no_place_taken() -> None:
    call = Script([(USUAL_S, ANSWER)])
    policy = limited(call)
    tasks = [asking(policy) for _ in range(4)]
    await asyncio.sleep(0.05)
    tasks[1].cancel()
    tasks[0].cancel()
    await asyncio.wait(tasks)
    assert now() == pytest.approx(0.25)
    assert len(call.started) == 3


@virtual_time
async def test_callers_in_a_hurry_do_not_shrink_the_limit_but_late_answers_do() -> None:
    late = failed(grpc.StatusCode.DEADLINE_EXCEEDED, "late")
    limiter = Limiter(LimiterConfig(initial=20, least=2))
    policy = Limited(Script([(0.0, late)]), limiter, learned())
    for _ in range(30):
        await policy(REQUEST, now() + USUAL_S / 2)
    before = limiter._limit
    await policy(REQUEST, now() + 2 * USUAL_S)
    assert before == 20
    assert limiter._limit == pytest.approx(18)


@hypothesis.given(
    st.lists(
        st.tuples(
            st.floats(0, 1), st.floats(0.01, 2), st.floats(0, 2), st.sampled_from(Criticality)
        ),
        max_size=40,
    )
)
@hypothesis.settings(max_examples=50, deadline=None)
def test_whoever_comes_and_leaves_every_place_is_given_back_and_the_limit_kept(
    callers: list[tuple[float, float, float, Criticality]],
) -> None:
    limiter = Limiter(LimiterConfig(initial=3, least=3, most=3))
    running = most = 0

    async def node(request: Message, deadline: float) -> Outcome:
        nonlocal running, most
        running += 1
        most = max(most, running)
        try:
            await asyncio.sleep(0.1)
        finally:
            running -= 1
        return ANSWER

    policy = Limited(node, limiter, LatencyWindow(0.1))

    async def visit(arrival: float, time_s: float, patience: float, c: Criticality) -> None:
        await asyncio.sleep(arrival)
        task = asking(policy, now() + time_s, c)
        await asyncio.wait([task], timeout=patience)
        task.cancel()
        await asyncio.wait([task])

    async def everybody() -> None:
        await asyncio.gather(*(visit(*caller) for caller in callers))
        assert limiter.in_flight == running == 0
        assert not policy._line

    run_virtually(everybody())
    assert most <= 3
