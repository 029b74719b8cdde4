from random import Random

import grpc
import hypothesis
import pytest
from hypothesis import strategies as st

from services.gateway.outcome import Outcome, failed
from services.gateway.policies.budget import Budget
from services.gateway.policies.latency import LatencyWindow
from services.gateway.policies.retry import BACKGROUND, HOT, Retried, RetryProfile
from tests.gateway.scripts import ANSWER, FOREVER, INTERNAL, LATE, REQUEST, UNAVAILABLE, Script
from tests.virtual_time import virtual_time


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
