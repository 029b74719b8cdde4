import asyncio

import grpc
import hypothesis
import pytest
from hypothesis import strategies as st

from services.gateway.outcome import Outcome, failed
from services.gateway.policies.breaker import Breaker, BreakerConfig, Guarded, State
from services.gateway.policies.latency import LatencyWindow
from tests.gateway.scripts import ANSWER, FOREVER, INTERNAL, LATE, REQUEST, UNAVAILABLE, Script
from tests.virtual_time import now, virtual_time


def breaker_with_history(**config: float) -> tuple[Breaker, list[State]]:
    history: list[State] = []
    return Breaker(BreakerConfig(**config), history.append), history  # type: ignore[arg-type]


def test_breaker_opens_after_failures_in_a_row_and_probes_once() -> None:
    breaker, history = breaker_with_history(failure_count=3, open_s=60)
    for _ in range(3):
        assert breaker.allows(0)
        breaker.failed(0)
    assert not breaker.allows(59.9)
    assert breaker.allows(60)
    assert not breaker.allows(60)
    breaker.succeeded()
    assert breaker.allows(60)
    assert history == [State.OPEN, State.HALF_OPEN, State.CLOSED]


def test_a_success_between_failures_keeps_the_breaker_closed() -> None:
    breaker, history = breaker_with_history(failure_count=2)
    for _ in range(10):
        breaker.failed(0)
        breaker.succeeded()
    assert not history


def test_a_failed_probe_opens_the_breaker_for_another_while() -> None:
    breaker, _ = breaker_with_history(failure_count=1, open_s=60)
    breaker.failed(0)
    assert breaker.allows(60)
    breaker.failed(61)
    assert not breaker.allows(120)
    assert breaker.allows(121)


def test_an_abandoned_probe_leaves_room_for_another() -> None:
    breaker, _ = breaker_with_history(failure_count=1, open_s=60)
    breaker.failed(0)
    assert breaker.allows(60)
    breaker.abandoned(61)
    assert breaker.allows(61)


def test_who_comes_back_is_called_at_once() -> None:
    breaker, _ = breaker_with_history(failure_count=1)
    breaker.failed(0)
    breaker.reset()
    assert breaker.allows(0)


@hypothesis.given(st.lists(st.tuples(st.sampled_from("sfa"), st.floats(0, 40))))
def test_a_half_open_breaker_never_lets_a_second_call_through(
    events: list[tuple[str, float]],
) -> None:
    breaker, _ = breaker_with_history(failure_count=2, open_s=30)
    time_s = 0.0
    for kind, seconds in events:
        time_s += seconds
        if breaker.allows(time_s):
            assert breaker.state is State.CLOSED or not breaker.allows(time_s)
            if kind == "s":
                breaker.succeeded()
            elif kind == "f":
                breaker.failed(time_s)
            else:
                breaker.abandoned(time_s)


async def state_after(outcome: Outcome, time_s: float = FOREVER) -> State:
    """Of a breaker that opens at the first failure, after one call."""
    breaker, _ = breaker_with_history(failure_count=1)
    await Guarded(Script([(0, outcome)]), breaker, LatencyWindow(0.1))(REQUEST, time_s)
    return breaker.state


@pytest.mark.parametrize("outcome", [INTERNAL, failed(grpc.StatusCode.UNKNOWN, ""), LATE])
@virtual_time
async def test_what_an_answering_service_does_wrong_counts(outcome: Outcome) -> None:
    assert await state_after(outcome) is State.OPEN


@pytest.mark.parametrize(
    "outcome",
    [
        ANSWER,
        UNAVAILABLE,
        failed(grpc.StatusCode.INVALID_ARGUMENT, ""),
        failed(grpc.StatusCode.NOT_FOUND, ""),
    ],
)
@virtual_time
async def test_absence_and_the_callers_own_mistakes_do_not_count(outcome: Outcome) -> None:
    assert await state_after(outcome) is State.CLOSED


@virtual_time
async def test_running_out_of_a_time_that_was_too_short_does_not_count() -> None:
    assert await state_after(LATE, time_s=0.05) is State.CLOSED


@virtual_time
async def test_running_out_of_time_while_others_are_answered_does_not_count() -> None:
    breaker, _ = breaker_with_history(failure_count=1)
    guarded = Guarded(
        Script([(0, ANSWER), (0.05, LATE), (0.06, LATE)]), breaker, LatencyWindow(0.1)
    )
    states = []
    for _ in range(3):  # of the last, nobody has been answered for as long as a call takes
        await guarded(REQUEST, FOREVER)
        states.append(breaker.state)
    assert states == [State.CLOSED, State.CLOSED, State.OPEN]


@virtual_time
async def test_a_call_cut_off_at_its_deadline_counts_and_one_cut_off_before_does_not() -> None:
    for seconds, state in ((0.2, State.OPEN), (0.1, State.CLOSED)):
        breaker, _ = breaker_with_history(failure_count=1)
        guarded = Guarded(Script([(60, ANSWER)]), breaker, LatencyWindow(0.1))
        with pytest.raises(TimeoutError):
            async with asyncio.timeout(seconds):
                await guarded(REQUEST, now() + 0.2)
        assert breaker.state is state


@virtual_time
async def test_an_open_breaker_refuses_without_calling() -> None:
    breaker, _ = breaker_with_history(failure_count=1)
    breaker.failed(0)
    call = Script([(0, ANSWER)])
    outcome = await Guarded(call, breaker, LatencyWindow(0.1))(REQUEST, FOREVER)
    assert (outcome.reason, outcome.attempts, call.started) == ("BREAKER_OPEN", 0, [])


def test_a_service_that_was_only_slow_is_asked_again_after_a_second() -> None:
    breaker, history = breaker_with_history(failure_count=2)
    for _ in range(2):
        breaker.failed(0, was_slow=True)
    assert not breaker.allows(0.99)
    assert breaker.allows(1.0)
    breaker.failed(1.0)
    assert not breaker.allows(60.9)
    assert breaker.allows(61.0)
    assert history == [State.OPEN, State.HALF_OPEN] * 2
