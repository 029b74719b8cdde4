"""Concurrent calls of one node travel together, and each is answered as if it had gone alone."""

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import Any

import grpc
import hypothesis
import pytest
from google.protobuf.message import Message
from hypothesis import strategies as st

from fomofeed.profile.v1 import profile_service_pb2 as profile_pb
from fomofeed.ranker.v1 import ranker_service_pb2 as ranker_pb
from services.gateway.outcome import Outcome, failed
from services.gateway.policies.coalesce import MAX_FLIGHTS, Coalesced
from services.gateway.policies.lull import Lulls
from services.gateway.policies.together import Together
from serving.errors import EngineError, InvalidRequestError, NotFoundError, Violation, to_status
from serving.request import CallFacts, Criticality, enter
from tests.gateway.conftest import PLANS, Analyze
from tests.virtual_time import VirtualLoop, now, run_virtually, virtual_time

RANKER, PROFILE = PLANS["analyze"].nodes["ranker"], PLANS["analyze"].nodes["profile"]


@dataclass
class Wire:
    """The single and the batch method of the ranker; answers with the user's id as the score."""

    seconds: float = 0.1
    calls: list[tuple[float, list[int]]] = field(default_factory=list)  # when, of which users
    cancelled: list[list[int]] = field(default_factory=list)
    deadlines: list[float] = field(default_factory=list)
    whole: Outcome | None = None  # what every batch is answered with, if anything

    async def single(self, request: Message, deadline: float) -> Outcome:
        assert isinstance(request, ranker_pb.ScorePostRequest)
        await self._take([request.user_id], deadline)
        return Outcome(ranker_pb.ScorePostResponse(engagement_score=request.user_id))

    async def batch(self, request: Message, deadline: float) -> Outcome:
        assert isinstance(request, ranker_pb.BatchScorePostsRequest)
        users = [one.user_id for one in request.requests]
        await self._take(users, deadline)
        results = [self._result(user, seat) for seat, user in enumerate(users)]
        return self.whole or Outcome(ranker_pb.BatchScorePostsResponse(results=results))

    def _result(self, user: int, seat: int) -> ranker_pb.ScorePostResult:
        if user == 13:
            wrong = Violation(f"requests[{seat}].hour_of_week", "200", "0 to 167")
            return ranker_pb.ScorePostResult(error=to_status(InvalidRequestError(wrong)))
        answer = ranker_pb.ScorePostResponse(engagement_score=user)
        return ranker_pb.ScorePostResult(response=answer)

    async def _take(self, users: list[int], deadline: float) -> None:
        self.calls.append((now(), users))
        self.deadlines.append(deadline)
        try:
            await asyncio.sleep(self.seconds)
        except asyncio.CancelledError:
            self.cancelled.append(users)
            raise


@asynccontextmanager
async def coalesced(wire: Wire, expected_s: float = 1.0) -> AsyncIterator[Coalesced]:
    assert RANKER.batch is not None
    together = Together(wire.single, wire.batch, RANKER.batch)
    async with Coalesced("n", together, expected_s, False, Lulls()) as node:
        yield node


def ask(node: Coalesced, user: int, deadline: float = 9.0, **facts: Any) -> asyncio.Task[Outcome]:
    async def run() -> Outcome:
        enter(CallFacts(**facts))
        return await node(ranker_pb.ScorePostRequest(user_id=user), deadline)

    return asyncio.create_task(run())


@virtual_time
async def test_one_alone_goes_at_once_and_who_comes_together_goes_together() -> None:
    wire = Wire()
    async with coalesced(wire) as node:
        first = ask(node, 1)
        await asyncio.sleep(0.01)
        others = [ask(node, user) for user in (2, 3, 4)]
        scores = [(await task).answer.engagement_score for task in (first, *others)]  # type: ignore[union-attr]
    assert wire.calls == [(0.0, [1]), (pytest.approx(0.01), [2, 3, 4])]
    assert scores == [1, 2, 3, 4]


@virtual_time
async def test_while_the_loop_is_busy_calls_wait_for_company() -> None:
    wire = Wire()
    async with coalesced(wire) as node:
        first = ask(node, 1)
        await work(3)
        second = ask(node, 2)
        await work(2)
        third = ask(node, 3)
        await work(2)
        await asyncio.wait([first, second, third])
    assert [users for _, users in wire.calls] == [[1], [2, 3]]


@virtual_time
async def test_nobody_waits_for_company_longer_than_a_tenth_of_his_time() -> None:
    wire = Wire()
    async with coalesced(wire) as node:
        first = ask(node, 1)
        await work(3)
        second = ask(node, 2, deadline=now() + 0.050)
        await work(100)
        await asyncio.wait([first, second])
    assert wire.calls[1] == (pytest.approx(0.008, abs=0.003), [2])


@virtual_time
async def test_who_is_too_late_to_leave_with_others_keeps_nobody_from_leaving_later() -> None:
    wire = Wire()
    async with coalesced(wire) as node:
        calls = [ask(node, 1)]
        await work(3)
        calls.append(ask(node, 2, criticality=Criticality.CRITICAL))
        late = ask(node, 3, deadline=now() + 0.0015)
        await work(3)
        calls.append(ask(node, 4))
        await asyncio.wait_for(asyncio.wait(calls), 1.0)
        assert (await late).reason == "DEADLINE_EXCEEDED"
    assert [users for _, users in wire.calls] == [[1], [2], [4]]


async def work(turns: int) -> None:
    """Keeps the loop busy for so many turns of a millisecond."""
    loop = asyncio.get_running_loop()
    assert isinstance(loop, VirtualLoop)
    for _ in range(turns):
        loop.now += 0.001
        await asyncio.sleep(0)


@virtual_time
async def test_a_call_that_breaks_the_contract_is_heard_of_by_all_that_wait() -> None:
    async def broken(request: Message, deadline: float) -> Outcome:
        raise ValueError("a bug")

    assert RANKER.batch is not None
    async with Coalesced("n", Together(broken, broken, RANKER.batch), 1.0, False, Lulls()) as node:
        ended = await asyncio.gather(ask(node, 1), ask(node, 2), return_exceptions=True)
    assert [type(one) for one in ended] == [ValueError, ValueError]


@virtual_time
async def test_a_bad_request_fails_alone_in_the_words_of_its_own_method() -> None:
    wire = Wire()
    async with coalesced(wire) as node:
        good, bad, better = await asyncio.gather(*(ask(node, user) for user in (1, 13, 2)))
    assert good.answer is not None
    assert better.answer is not None
    assert bad.code is grpc.StatusCode.INVALID_ARGUMENT
    assert bad.violations == (Violation("hour_of_week", "200", "0 to 167"),)


async def fill_the_air(node: Coalesced) -> list[asyncio.Task[Outcome]]:
    """Makes as many calls, one by one, as may be in the air."""
    tasks = []
    for user in range(100, 100 + MAX_FLIGHTS):
        tasks.append(ask(node, user))
        await asyncio.sleep(0.001)
    return tasks


@virtual_time
async def test_calls_that_are_slower_than_usual_hold_up_nobody() -> None:
    wire = Wire(seconds=5.0)
    async with coalesced(wire, expected_s=0.2) as node:
        slow = await fill_the_air(node)
        second = ask(node, 2)
        await asyncio.wait([*slow, second])
    assert wire.calls[MAX_FLIGHTS:] == [(pytest.approx(0.2), [2])]


@virtual_time
async def test_tenants_and_very_different_deadlines_do_not_travel_together() -> None:
    wire = Wire()
    async with coalesced(wire) as node:
        ask(node, 1)
        await asyncio.sleep(0.01)
        tasks = [
            ask(node, 2, tenant="x"),
            ask(node, 3, tenant="y"),
            ask(node, 4, deadline=900.0, tenant="x"),
        ]
        await asyncio.wait(tasks)
    assert sorted(users for _, users in wire.calls) == [[1], [2], [3], [4]]


@virtual_time
async def test_a_batch_has_the_time_of_its_last_passenger() -> None:
    wire = Wire()
    async with coalesced(wire) as node:
        await asyncio.gather(ask(node, 1, deadline=8.5), ask(node, 2, deadline=9.5))
    assert wire.deadlines == [9.5]


@virtual_time
async def test_who_leaves_is_not_missed_and_the_last_one_out_cancels_the_wire() -> None:
    wire = Wire()
    async with coalesced(wire) as node:
        await fill_the_air(node)
        queued, stays, goes = (ask(node, user) for user in (2, 3, 4))
        await asyncio.sleep(0.01)
        queued.cancel()
        await asyncio.sleep(0.1)  # the others are under way
        goes.cancel()
        await asyncio.sleep(0.01)
        assert wire.cancelled == []
        stays.cancel()
        await asyncio.sleep(0.01)
        assert wire.calls[MAX_FLIGHTS:] == [(pytest.approx(0.1), [3, 4])]
        assert wire.cancelled == [[3, 4]]
        assert (await ask(node, 5)).answer is not None
    assert asyncio.all_tasks() == {asyncio.current_task()}


@virtual_time
async def test_a_method_that_does_not_take_the_batch_is_asked_one_by_one() -> None:
    wire = Wire(whole=failed(grpc.StatusCode.UNIMPLEMENTED, "no such method"))
    async with coalesced(wire) as node:
        outcomes = await asyncio.gather(*(ask(node, user) for user in (1, 2)))
    assert all(outcome.answer is not None for outcome in outcomes)
    assert [users for _, users in wire.calls] == [[1, 2], [1], [2]]


@virtual_time
async def test_a_failed_or_short_batch_is_everybodys_failure() -> None:
    short = Outcome(ranker_pb.BatchScorePostsResponse())
    for whole, code in (
        (failed(grpc.StatusCode.UNAVAILABLE, "gone"), grpc.StatusCode.UNAVAILABLE),
        (short, grpc.StatusCode.INTERNAL),
    ):
        async with coalesced(Wire(whole=whole)) as node:
            outcomes = await asyncio.gather(*(ask(node, user) for user in (1, 2)))
        assert [outcome.code for outcome in outcomes] == [code, code]


@virtual_time
async def test_no_batch_is_larger_than_the_servers_take() -> None:
    wire = Wire()
    async with coalesced(wire) as node:
        await asyncio.gather(*(ask(node, user) for user in range(100, 200)))
    assert [len(users) for _, users in wire.calls] == [32, 32, 32, 4]


def test_a_batch_may_repeat_the_only_field_of_a_request() -> None:
    batch = PROFILE.batch
    assert batch is not None
    requests = [profile_pb.GetUserProfileRequest(user_id=user) for user in (1, 2)]
    assert batch.pack(requests) == profile_pb.BatchGetUserProfilesRequest(user_ids=[1, 2])
    ana, lost = profile_pb.UserProfile(user_name="Ana"), to_status(NotFoundError("user", "2"))
    found = profile_pb.BatchGetUserProfilesResponse(
        results=[
            profile_pb.UserProfileResult(profile=ana),
            profile_pb.UserProfileResult(error=lost),
            profile_pb.UserProfileResult(),
        ]
    )
    first, second, third = batch.unpack(found)
    assert first == profile_pb.GetUserProfileResponse(user=ana)
    assert (second, third.code) == (lost, grpc.StatusCode.INTERNAL.value[0])  # type: ignore[union-attr]
    wrong = Violation("user_ids[1]", "0", "at least 1")
    assert batch.in_single_words(wrong, 1) == Violation("user_id", "0", "at least 1")


async def test_a_crowd_shares_calls_and_each_gets_its_own_answer(analyze: Analyze) -> None:
    fakes = analyze.fakes
    fakes.caption.delay_s = 0.02  # who arrives meanwhile travels together
    asks = (analyze.ask(user_id=user, caption=f"draft {user}") for user in range(1, 65))
    responses = await asyncio.gather(*asks)
    assert all(not response.degraded for response in responses)
    asked = [request.user_id for request in fakes.ranker.requests]
    assert set(asked) == set(range(1, 65))
    assert len(asked) <= 64 + 4  # a slow one in twenty is asked twice
    assert max(fakes.profile.batches) > 1
    assert max(fakes.caption.batches) > 1
    assert fakes.clip.batches == []


@pytest.mark.parametrize(
    ("error", "reason"),
    [(EngineError("model failed"), "INTERNAL"), (NotFoundError("user", "1"), "NOT_FOUND")],
)
async def test_an_error_of_one_in_a_crowd_degrades_that_one(
    analyze: Analyze, error: Exception, reason: str
) -> None:
    analyze.fakes.profile.answer = _failing_for(7, analyze.fakes.profile.answer, error)
    responses = await asyncio.gather(*(analyze.ask(user_id=user) for user in range(1, 33)))
    degraded = {user for user, one in enumerate(responses, start=1) if one.degraded}
    assert degraded == {7}
    assert responses[6].degradations[0].reason == reason


def _failing_for(user: int, answer: Callable[[Any], Any], error: Exception) -> Callable[[Any], Any]:
    def failing(request: Any) -> Any:
        if request.user_id == user:
            raise error
        return answer(request)

    return failing


@hypothesis.given(
    st.lists(
        st.tuples(
            st.integers(0, 6),  # ms that the loop is busy before
            st.sampled_from(["", "b"]),
            st.sampled_from(Criticality),
            st.sampled_from([1, 2, 3, 5, 20, 400]),  # ms that are left
            st.sampled_from([1, 10, 100, 999, 999]),  # ms after which the caller leaves
        ),
        min_size=20,
    ),
    st.integers(1, 150),  # ms that a call takes
)
def test_whoever_asks_is_answered_once_or_told_why_not(
    plan: list[tuple[int, str, Criticality, int, int]], call_ms: int
) -> None:
    async def main() -> None:
        wire = Wire(seconds=call_ms / 1000)
        async with coalesced(wire, expected_s=0.05) as node:
            asked = []
            for user, (busy, tenant, kind, left_ms, leaves_ms) in enumerate(plan, 100):
                await work(busy)
                end = now() + left_ms / 1000
                asked.append(ask(node, user, end, tenant=tenant, criticality=kind))
                if leaves_ms < left_ms:
                    asyncio.get_running_loop().call_later(leaves_ms / 1000, asked[-1].cancel)
            await asyncio.wait_for(asyncio.wait(asked), 2.0)
        sent = [user for _, users in wire.calls for user in users]
        assert len(sent) == len(set(sent))
        for user, task in enumerate(asked, 100):
            if not task.cancelled():
                answer = task.result().answer
                assert getattr(answer, "engagement_score", None) == (user if user in sent else None)

    run_virtually(main())
