import asyncio
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from itertools import chain, repeat
from random import Random

import grpc
import hypothesis
import pytest
from google.protobuf.message import Message
from hypothesis import strategies as st

from fomofeed.type.v1 import type_pb2
from services.gateway.outcome import Outcome, failed
from services.gateway.policies.breaker import Breaker, BreakerConfig, Guarded, State
from services.gateway.policies.budget import Budget
from services.gateway.policies.hedge import Hedged
from services.gateway.policies.latency import LatencyWindow
from services.gateway.policies.retry import BACKGROUND, HOT, Retried, RetryProfile
from tests.virtual_time import now, virtual_time

REQUEST = type_pb2.ModelRef()
ANSWER = Outcome(type_pb2.ModelRef(model="answer"))
UNAVAILABLE = failed(grpc.StatusCode.UNAVAILABLE, "gone")
INTERNAL = failed(grpc.StatusCode.INTERNAL, "broken")
LATE = failed(grpc.StatusCode.DEADLINE_EXCEEDED, "late")
FOREVER = 1e9


@dataclass
class Script:
    """A call that answers by a script of (seconds, outcome), the last one over and over."""

    steps: list[tuple[float, Outcome]]
    started: list[float] = field(default_factory=list)
    cancelled: list[float] = field(default_factory=list)

    def __post_init__(self) -> None:
        self._next: Iterator[tuple[float, Outcome]] = chain(self.steps, repeat(self.steps[-1]))

    async def __call__(self, request: Message, deadline: float) -> Outcome:
        seconds, outcome = next(self._next)
        self.started.append(now())
        try:
            await asyncio.sleep(seconds)
        except asyncio.CancelledError:
            self.cancelled.append(now())
            raise
        return outcome


class Longest(Random):
    """Always waits as long as it may."""

    def uniform(self, a: float, b: float) -> float:
        return b


def retried(call: Script, profile: RetryProfile, random: Random, p95_s: float = 0.01) -> Retried:
    budget = Budget(1.0)
    for _ in range(10):
        budget.deposit()
    return Retried(call, profile, LatencyWindow(p95_s), budget, random)


@virtual_time
async def test_background_retries_wait_1_2_and_4_seconds_at_most() -> None:
    call = Script([(0, UNAVAILABLE)])
    outcome = await retried(call, BACKGROUND, Longest())(REQUEST, FOREVER)
    assert call.started == [0, 1, 3, 7]
    assert (outcome.reason, outcome.attempts) == ("UNAVAILABLE", 4)


@virtual_time
async def test_hot_retries_once_after_at_most_20_ms() -> None:
    call = Script([(0, UNAVAILABLE)])
    outcome = await retried(call, HOT, Longest())(REQUEST, FOREVER)
    assert call.started == [0, pytest.approx(0.020)]
    assert outcome.attempts == 2


@hypothesis.given(st.integers(0), st.integers(1, 8))
def test_every_wait_is_within_its_profile(seed: int, retry: int) -> None:
    assert 0.005 <= HOT.delay_s(retry, Random(seed)) <= 0.020
    assert 0 <= BACKGROUND.delay_s(retry, Random(seed)) <= min(30, 2 ** (retry - 1))


@virtual_time
async def test_a_retry_that_is_answered_is_the_answer() -> None:
    call = Script([(0, UNAVAILABLE), (0, ANSWER)])
    outcome = await retried(call, HOT, Longest())(REQUEST, FOREVER)
    assert (outcome.answer, outcome.attempts) == (ANSWER.answer, 2)


@pytest.mark.parametrize("outcome", [INTERNAL, LATE, ANSWER])
@virtual_time
async def test_nothing_but_absence_is_retried(outcome: Outcome) -> None:
    call = Script([(0, outcome)])
    assert await retried(call, HOT, Longest())(REQUEST, FOREVER) is outcome
    assert len(call.started) == 1


@virtual_time
async def test_no_retry_that_could_not_end_in_time() -> None:
    call = Script([(0, UNAVAILABLE)])
    await retried(call, HOT, Longest(), p95_s=0.1)(REQUEST, 0.119)
    assert len(call.started) == 1
    await retried(call, HOT, Longest(), p95_s=0.1)(REQUEST, 0.121)
    assert len(call.started) == 3


@virtual_time
async def test_background_obeys_pushback_and_hot_leaves_it_to_the_caller() -> None:
    full = failed(grpc.StatusCode.RESOURCE_EXHAUSTED, "full", retry_after_s=5.0)
    call = Script([(0, full), (0, ANSWER)])
    await retried(call, BACKGROUND, Longest())(REQUEST, FOREVER)
    assert call.started == [0, 5]
    call = Script([(0, full)])
    await retried(call, HOT, Longest())(REQUEST, FOREVER)
    assert len(call.started) == 1


@virtual_time
async def test_a_dead_service_sees_at_most_a_fifth_more_calls() -> None:
    call = Script([(0, UNAVAILABLE)])
    policy = Retried(call, HOT, LatencyWindow(0.01), Budget(0.2), Random(1))
    for count in range(1, 1001):
        await policy(REQUEST, FOREVER)
        assert len(call.started) <= 1.2 * count + 1e-6
    assert len(call.started) == 1200


@hypothesis.given(st.lists(st.booleans()), st.sampled_from([0.05, 0.2, 0.5]))
def test_a_budget_never_grants_more_than_its_share(spends: list[bool], share: float) -> None:
    budget, calls, granted = Budget(share), 0, 0
    for spend in spends:
        if spend:
            granted += budget.try_spend()
        else:
            budget.deposit()
            calls += 1
        assert granted <= share * calls + 1e-6


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


def hedged(call: Script, p95_s: float = 0.05) -> Hedged:
    budget = Budget(0.05)
    for _ in range(20):
        budget.deposit()
    return Hedged(call, LatencyWindow(p95_s), budget)


@virtual_time
async def test_a_call_that_takes_longer_than_usual_is_made_again_and_the_first_answer_wins() -> (
    None
):
    call = Script([(10, INTERNAL), (0.02, ANSWER)])
    outcome = await hedged(call)(REQUEST, FOREVER)
    assert (outcome.answer, outcome.attempts) == (ANSWER.answer, 2)
    assert call.started == [0, pytest.approx(0.05)]
    assert call.cancelled == [pytest.approx(0.07)]


@virtual_time
async def test_the_first_call_may_still_win() -> None:
    call = Script([(0.06, ANSWER), (10, INTERNAL)])
    outcome = await hedged(call)(REQUEST, FOREVER)
    assert outcome.answer is ANSWER.answer
    assert now() == pytest.approx(0.06)


@virtual_time
async def test_a_failure_waits_for_the_other_call() -> None:
    call = Script([(0.06, INTERNAL), (0.05, ANSWER)])
    assert (await hedged(call)(REQUEST, FOREVER)).answer is ANSWER.answer
    call = Script([(0.06, INTERNAL), (0.05, UNAVAILABLE)])
    assert (await hedged(call)(REQUEST, FOREVER)).reason == "INTERNAL"


@virtual_time
async def test_a_usual_call_is_made_once() -> None:
    call = Script([(0.04, ANSWER)])
    outcome = await hedged(call)(REQUEST, FOREVER)
    assert (outcome.attempts, len(call.started)) == (1, 1)


@virtual_time
async def test_while_all_is_slow_at_most_one_call_in_twenty_is_made_twice() -> None:
    call = Script([(1, ANSWER)])
    policy = Hedged(call, LatencyWindow(0.05), Budget(0.05))
    for _ in range(400):
        await policy(REQUEST, FOREVER)
    assert len(call.started) == 420


@virtual_time
async def test_cancelling_a_hedged_call_cancels_both() -> None:
    call = Script([(10, ANSWER)])
    running = asyncio.ensure_future(hedged(call)(REQUEST, FOREVER))
    await asyncio.sleep(0.1)
    running.cancel()
    await asyncio.wait([running])
    assert len(call.cancelled) == 2
    assert asyncio.all_tasks() == {asyncio.current_task()}


@virtual_time
async def test_one_slow_replica_of_three_is_hidden_from_the_slowest_hundredth() -> None:
    replicas = [0.01, 0.01, 1.0]
    turn = iter(range(10**6))

    async def round_robin(request: Message, deadline: float) -> Outcome:
        await asyncio.sleep(replicas[next(turn) % 3])
        return ANSWER

    assert await p99_s(round_robin) >= 3 * await p99_s(
        Hedged(round_robin, LatencyWindow(0.02), Budget(1.0))
    )


async def p99_s(call: Callable[[Message, float], object]) -> float:
    durations = []
    for _ in range(300):
        start = now()
        await call(REQUEST, FOREVER)  # type: ignore[misc]
        durations.append(now() - start)
    return sorted(durations)[297]


@hypothesis.given(st.lists(st.floats(0, 10), min_size=20, max_size=200), st.floats(0, 1))
def test_quantiles_are_those_of_the_latest_durations(seen: list[float], share: float) -> None:
    window = LatencyWindow(99.0, size=50)
    for duration in seen:
        window.add(duration)
    latest = sorted(seen[-50:])
    assert window.quantile_s(share) == latest[min(len(latest) - 1, int(share * len(latest)))]


def test_the_expected_time_stands_until_enough_was_seen() -> None:
    window = LatencyWindow(0.5)
    for _ in range(19):
        window.add(0.1)
    assert window.quantile_s(0.95) == 0.5
    window.add(0.1)
    assert window.quantile_s(0.95) == 0.1
