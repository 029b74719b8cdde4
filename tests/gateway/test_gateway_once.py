"""Identical calls are one, and answers are remembered for as long as they are true."""

import asyncio

import grpc
import pytest

from fomofeed.type.v1 import type_pb2
from services.gateway.calling import Policies
from services.gateway.outcome import Outcome, failed
from services.gateway.policies.cache import AnswerStore, NodeCache
from services.gateway.policies.once import Once
from serving.request import CallFacts, enter
from tests.gateway.conftest import LONG_S, Analyze, ask_directly
from tests.gateway.fake_nodes import FakeServices
from tests.gateway.scripts import ANSWER, FOREVER, LATE, Script
from tests.virtual_time import now, virtual_time

NODES = ("profile", "clip", "timing", "ranker", "caption", "notification")
FIRST = type_pb2.ModelRef(model="fake", version="1")
SECOND = type_pb2.ModelRef(model="fake", version="2")


def asks(text: str) -> type_pb2.ModelRef:
    return type_pb2.ModelRef(model=text)


def answer_of(model: type_pb2.ModelRef) -> Outcome:
    ledger = type_pb2.Ledger(model=model, compute_us=5)
    return Outcome(type_pb2.ModelRef(model="answer"), ledger=ledger)


def cached(
    call: Script, lifetime_s: float = 10.0, max_bytes: int = 10**6
) -> tuple[Once, NodeCache]:
    cache = NodeCache(AnswerStore(max_bytes), "node", lifetime_s)
    return Once(call, cache), cache


@virtual_time
async def test_a_hundred_identical_calls_are_one() -> None:
    call = Script([(1.0, ANSWER)])
    once = Once(call)
    outcomes = await asyncio.gather(*(once(asks("a"), FOREVER) for _ in range(100)))
    assert len(call.started) == 1
    assert sum(outcome.attempts for outcome in outcomes) == 1
    assert all(outcome.answer is ANSWER.answer for outcome in outcomes)


@virtual_time
async def test_a_changed_byte_is_another_call() -> None:
    call = Script([(1.0, ANSWER)])
    once = Once(call)
    await asyncio.gather(once(asks("a"), FOREVER), once(asks("b"), FOREVER))
    assert len(call.started) == 2


@virtual_time
async def test_tenants_do_not_share() -> None:
    call = Script([(1.0, answer_of(FIRST))])
    once, _ = cached(call)

    async def ask(tenant: str) -> None:
        enter(CallFacts(tenant=tenant))
        await once(asks("a"), FOREVER)

    await asyncio.gather(*(asyncio.create_task(ask(tenant)) for tenant in "xyx"))
    await asyncio.create_task(ask("z"))
    assert len(call.started) == 3


@virtual_time
async def test_when_the_first_caller_leaves_one_of_the_others_asks_again() -> None:
    call = Script([(1.0, ANSWER)])
    once = Once(call)
    callers = [asyncio.ensure_future(once(asks("a"), FOREVER)) for _ in range(4)]
    await asyncio.sleep(0.5)
    callers[0].cancel()
    outcomes = await asyncio.gather(*callers[1:])
    assert [outcome.answer for outcome in outcomes] == [ANSWER.answer] * 3
    assert sum(outcome.attempts for outcome in outcomes) == 1
    assert (call.started, call.cancelled) == ([0, pytest.approx(0.5)], [pytest.approx(0.5)])
    assert now() == pytest.approx(1.5)


@virtual_time
async def test_a_caller_who_only_waits_may_leave_unnoticed() -> None:
    call = Script([(1.0, ANSWER)])
    once = Once(call)
    first, second = [asyncio.ensure_future(once(asks("a"), FOREVER)) for _ in range(2)]
    await asyncio.sleep(0.5)
    second.cancel()
    assert (await first).answer is ANSWER.answer
    assert (len(call.started), call.cancelled) == (1, [])


@virtual_time
async def test_the_last_caller_takes_the_call_with_him_and_leaves_nothing() -> None:
    call = Script([(10, ANSWER), (1.0, ANSWER)])
    once = Once(call)
    callers = [asyncio.ensure_future(once(asks("a"), FOREVER)) for _ in range(3)]
    await asyncio.sleep(0.5)
    for caller in callers:
        caller.cancel()
    await asyncio.wait(callers)
    assert call.cancelled == [pytest.approx(0.5)]
    assert asyncio.all_tasks() == {asyncio.current_task()}
    assert (await once(asks("a"), FOREVER)).answer is ANSWER.answer


@virtual_time
async def test_who_has_more_time_than_the_call_he_shared_makes_it_again() -> None:
    call = Script([(1.0, LATE), (1.0, ANSWER)])
    once = Once(call)
    short = asyncio.ensure_future(once(asks("a"), 1.0))
    long = asyncio.ensure_future(once(asks("a"), 5.0))
    assert (await short).code is grpc.StatusCode.DEADLINE_EXCEEDED
    assert (await long).answer is ANSWER.answer
    assert call.started == [0, pytest.approx(1.0)]


@virtual_time
async def test_a_failure_is_shared_but_not_remembered() -> None:
    broken = failed(grpc.StatusCode.INTERNAL, "broken", ledger=type_pb2.Ledger(model=FIRST))
    call = Script([(1.0, broken), (1.0, answer_of(FIRST))])
    once, _ = cached(call)
    outcomes = await asyncio.gather(*(once(asks("a"), FOREVER) for _ in range(5)))
    assert [outcome.reason for outcome in outcomes] == ["INTERNAL"] * 5
    assert (await once(asks("a"), FOREVER)).answer is not None
    assert len(call.started) == 2


@virtual_time
async def test_a_remembered_answer_says_that_nothing_was_computed_and_who_had_said_it() -> None:
    call = Script([(1.0, answer_of(FIRST))])
    once, _ = cached(call)
    first, second = [await once(asks("a"), FOREVER) for _ in range(2)]
    assert (first.attempts, second.attempts) == (1, 0)
    assert second.answer == first.answer
    assert second.ledger == type_pb2.Ledger(cached=True, model=FIRST)
    assert now() == pytest.approx(1.0)


@virtual_time
async def test_an_answer_is_forgotten_when_its_time_is_over() -> None:
    call = Script([(1.0, answer_of(FIRST))])
    once, _ = cached(call, lifetime_s=10)
    await once(asks("a"), FOREVER)
    await asyncio.sleep(10)
    await once(asks("a"), FOREVER)
    assert len(call.started) == 2


@virtual_time
async def test_a_new_model_never_answers_from_what_the_old_one_said() -> None:
    call = Script([(0.1, answer_of(FIRST)), (0.1, answer_of(SECOND))])
    once, _ = cached(call)
    await once(asks("a"), FOREVER)
    await once(asks("b"), FOREVER)
    again = await once(asks("a"), FOREVER)
    assert again.ledger is not None
    assert (again.ledger.model, again.attempts) == (SECOND, 1)


@virtual_time
async def test_a_late_word_of_the_old_model_does_not_bring_it_back() -> None:
    script = [answer_of(FIRST), answer_of(SECOND), answer_of(FIRST), answer_of(SECOND)]
    call = Script([(0.1, outcome) for outcome in script])
    once, _ = cached(call)
    for text in ("a", "b", "c", "a"):
        await once(asks(text), FOREVER)
    assert len(call.started) == 4
    assert (await once(asks("b"), FOREVER)).attempts == 0


@virtual_time
async def test_a_service_that_came_back_is_asked_for_its_model_before_anything_is_remembered() -> (
    None
):
    call = Script([(0.1, answer_of(FIRST))])
    once, cache = cached(call)
    await once(asks("a"), FOREVER)
    cache.forget()
    assert (await once(asks("a"), FOREVER)).attempts == 1
    assert (await once(asks("a"), FOREVER)).attempts == 0


@virtual_time
async def test_an_answer_without_a_model_is_never_remembered() -> None:
    call = Script([(0.1, ANSWER)])
    once, _ = cached(call)
    for _ in range(3):
        await once(asks("a"), FOREVER)
    assert len(call.started) == 3


@virtual_time
async def test_the_least_recently_used_answers_leave_a_full_store() -> None:
    call = Script([(0.0, answer_of(FIRST))])
    once, _ = cached(call, max_bytes=1100)  # two answers
    for text in ("a", "b", "a", "c"):
        await once(asks(text), FOREVER)
    attempts = [(await once(asks(text), FOREVER)).attempts for text in ("a", "c", "b")]
    assert attempts == [0, 0, 1]


async def test_a_hundred_concurrent_identical_requests_run_each_node_once() -> None:
    async with Analyze() as analyze:
        await analyze.ask(caption="connects every channel")
        before = counts(analyze.fakes)
        analyze.fakes.profile.delay_s = analyze.fakes.clip.delay_s = 0.05
        async with analyze.servicer(Policies()) as servicer:  # all begin in one turn of the loop
            asks = (ask_directly(servicer, LONG_S) for _ in range(100))
            responses = await asyncio.gather(*asks)
        assert counts(analyze.fakes) == {node: before[node] + 1 for node in NODES}
        assert all(not response.degraded for response in responses)
        await analyze.ask(media=b"another")
        assert analyze.fakes.clip.requests[-1].image == b"another"


async def test_a_repeated_picture_is_not_looked_at_again_until_the_model_changes() -> None:
    async with Analyze(Policies(store=AnswerStore(10**6))) as analyze:
        first = await analyze.ask()
        again = await analyze.ask()
        clip = next(report for report in again.nodes if report.node == "clip")
        assert (clip.ledger.cached, clip.attempts, len(analyze.fakes.clip.requests)) == (True, 0, 1)
        assert again.suggested_caption == first.suggested_caption
        analyze.fakes.clip.model = SECOND
        await analyze.ask(media=b"another")
        await analyze.ask()
        assert len(analyze.fakes.clip.requests) == 3


def counts(fakes: FakeServices) -> dict[str, int]:
    return {node: len(getattr(fakes, node).requests) for node in NODES}
