import asyncio
from collections.abc import Callable
from random import Random

import hypothesis
import pytest
from google.protobuf.message import Message
from hypothesis import strategies as st

from services.gateway.outcome import Outcome
from services.gateway.policies.budget import Budget
from services.gateway.policies.hedge import Hedged
from services.gateway.policies.latency import LatencyWindow
from serving.request import CallFacts, current, enter
from tests.gateway.scripts import ANSWER, FOREVER, INTERNAL, REQUEST, UNAVAILABLE, Script
from tests.serving.simulated_replicas import Client, Replica
from tests.virtual_time import now, virtual_time


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
async def test_a_node_without_room_is_not_asked_twice() -> None:
    call = Script([(1, ANSWER)])
    policy = Hedged(call, LatencyWindow(0.05), Budget(1.0), has_room=lambda: False)
    assert (await policy(REQUEST, FOREVER)).attempts == 1
    assert len(call.started) == 1


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
async def test_the_second_call_is_made_for_whom_the_first_was_made() -> None:
    made_for: list[str] = []

    async def call(request: Message, deadline: float) -> Outcome:
        made_for.append(current().tenant)
        await asyncio.sleep(1)
        return ANSWER

    node = Hedged(call, LatencyWindow(0.05), Budget(1.0))

    async def ask(tenant: str) -> None:
        enter(CallFacts(tenant=tenant))
        await node(REQUEST, FOREVER)

    await asyncio.gather(*(ask(tenant) for tenant in "abc"))
    assert made_for == [*"abc", *"abc"]


class Replicas:
    """Three replicas in turn; of the last one's calls a tenth hangs, 3.3 % of all."""

    def __init__(self) -> None:
        self.random = Random(5)
        self.latency = LatencyWindow(0.05)
        self.calls = 0

    async def __call__(self, request: Message, deadline: float) -> Outcome:
        self.calls += 1
        is_slow = self.calls % 3 == 0 and self.random.random() < 0.1
        began = now()
        await asyncio.sleep(1.0 if is_slow else self.random.uniform(0.008, 0.012))
        self.latency.add(now() - began)
        return ANSWER


@virtual_time
async def test_one_slow_replica_of_three_is_hidden_from_all_but_one_in_a_hundred() -> None:
    alone, behind = Replicas(), Replicas()
    hedged_node = Hedged(behind, behind.latency, Budget(0.05))
    before, after = await p99_s(alone), await p99_s(hedged_node)
    assert before >= 3 * after
    assert behind.calls <= 1.05 * CALLS


CALLS = 3000


async def p99_s(call: Callable[[Message, float], object]) -> float:
    durations = []
    for _ in range(CALLS):
        start = now()
        await call(REQUEST, FOREVER)  # type: ignore[misc]
        durations.append(now() - start)
    return sorted(durations)[CALLS * 99 // 100]


class Weighed:
    """Three replicas that tell their speed, the last always slow, before a hedged node."""

    def __init__(self, slower: float) -> None:
        random = Random(7)
        self.client = Client([Replica(SERVICE_S * factor, random) for factor in (1, 1, slower)])
        self._latency = LatencyWindow(SERVICE_S)
        self._hedged = Hedged(self._call, self._latency, Budget(0.05))
        self._asked = self._made = 0

    @property
    def extra(self) -> float:
        """Calls made more often than asked for."""
        return self._made / self._asked - 1

    async def _call(self, request: Message, deadline: float) -> Outcome:
        self._made += 1
        began = now()
        await self.client.call()
        self._latency.add(now() - began)
        return ANSWER

    async def _ask(self) -> None:
        self._asked += 1
        await self._hedged(REQUEST, FOREVER)

    async def run(self, is_hidden: bool) -> float:
        """Returns the p99 with weights and hedging, or without both."""
        ask = self._ask if is_hidden else None
        for seconds in (60.0, 150.0):  # the first learns
            await self.client.run(LOAD, seconds, is_hidden, ask)
        return self.client.p99_s


SERVICE_S, LOAD = 0.02, 8.0


@pytest.mark.parametrize("slower", [5.0, 10.0, 30.0])
@virtual_time
async def test_a_replica_that_is_always_slow_is_hidden_by_weights_and_hedging(
    slower: float,
) -> None:
    behind = Weighed(slower)
    before, after = await Weighed(slower).run(is_hidden=False), await behind.run(is_hidden=True)
    assert before >= 3 * after
    assert behind.extra <= 0.05


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
