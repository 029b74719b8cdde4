import asyncio
from typing import Any

import pytest

from serving.errors import DeadlineError, EngineError, NotReadyError, QueueFullError
from serving.request import Criticality, LedgerBuilder
from serving.scheduling.batcher import Batcher
from serving.scheduling.queue import WEIGHTS
from serving.scheduling.scheduler import BatchingConfig
from tests.fakes import FakeEngine
from tests.virtual_time import now, virtual_time

CONFIG = BatchingConfig(max_batch_rows=4, max_queue_rows=8)


def submit(batcher: Batcher[Any, Any], item: Any, **facts: Any) -> asyncio.Task[Any]:
    return asyncio.create_task(batcher.submit(item, **facts))


async def outcome(task: asyncio.Task[Any]) -> Any:
    try:
        return await task
    except Exception as error:
        return type(error)


@virtual_time
async def test_idle_engine_does_not_wait_and_busy_engine_collects() -> None:
    engine = FakeEngine(seconds_per_batch=0.010)
    async with Batcher([engine.infer], CONFIG) as batcher:
        first = submit(batcher, "a")
        await engine.started.wait()
        assert now() == 0
        assert await asyncio.gather(batcher.submit("b"), batcher.submit("c"), first) == [
            "b",
            "c",
            "a",
        ]
        assert now() == pytest.approx(0.020)
    assert engine.batches == [["a"], ["b", "c"]]


@virtual_time
async def test_what_arrives_in_one_turn_runs_in_one_batch() -> None:
    engine = FakeEngine(seconds_per_batch=0.010)
    async with Batcher([engine.infer], CONFIG) as batcher:
        await asyncio.gather(*(batcher.submit(i) for i in range(4)))
    assert engine.batches == [[0, 1, 2, 3]]


@virtual_time
async def test_two_instances_work_side_by_side() -> None:
    engines = [FakeEngine(0.010), FakeEngine(0.010)]
    async with Batcher([e.infer for e in engines], BatchingConfig(max_batch_rows=1)) as batcher:
        await asyncio.gather(*(batcher.submit(i) for i in range(4)))
        assert now() == pytest.approx(0.020)
    assert sorted(len(engine.batches) for engine in engines) == [2, 2]


@virtual_time
async def test_cancelled_caller_of_a_running_batch_leaves_everybody_else_answered() -> None:
    """The hang of a known server: one caller of a batch goes, the others wait for ever."""
    engine = FakeEngine(seconds_per_batch=0.010)
    async with Batcher([engine.infer], CONFIG) as batcher:
        tasks = [submit(batcher, item) for item in "abc"]
        await engine.started.wait()
        tasks[1].cancel()
        following = [submit(batcher, item) for item in "de"]
        assert [await tasks[0], await tasks[2]] == ["a", "c"]
        assert [await task for task in following] == ["d", "e"]
        assert tasks[1].cancelled()


@virtual_time
async def test_cancelled_caller_in_the_queue_is_never_executed() -> None:
    engine = FakeEngine(seconds_per_batch=0.010)
    async with Batcher([engine.infer], CONFIG) as batcher:
        running = submit(batcher, "a")
        await engine.started.wait()
        gone = submit(batcher, "b")
        await asyncio.sleep(0)
        gone.cancel()
        assert await batcher.submit("c") == "c"
        await running
    assert engine.batches == [["a"], ["c"]]
    assert batcher.scheduler.queue.rows == 0


@virtual_time
async def test_full_queue_is_refused_at_once_and_says_when_to_come_back() -> None:
    engine = FakeEngine(seconds_per_batch=0.010)
    async with Batcher([engine.infer], CONFIG) as batcher:
        await batcher.submit("learn")
        tasks = [submit(batcher, i) for i in range(4)]
        await asyncio.sleep(0.001)
        tasks += [submit(batcher, i) for i in range(8)]
        await asyncio.sleep(0)
        with pytest.raises(QueueFullError, match="8 rows") as caught:
            await batcher.submit("one more")
        assert now() == pytest.approx(0.011)
        assert caught.value.retry_after_s is not None
        assert 0.001 <= caught.value.retry_after_s <= 0.2
        await asyncio.gather(*tasks)


@virtual_time
async def test_expired_request_is_answered_without_any_new_arrival() -> None:
    engine = FakeEngine(seconds_per_batch=10.0)
    async with Batcher([engine.infer], CONFIG) as batcher:
        running = submit(batcher, "a")
        await engine.started.wait()
        with pytest.raises(DeadlineError) as caught:
            await batcher.submit("b", deadline=0.5)
        assert now() == pytest.approx(0.5)
        assert caught.value.reason == "EXPIRED"
        await running
    assert engine.batches == [["a"]]


@virtual_time
async def test_deadline_shorter_than_the_models_own_time_is_infeasible() -> None:
    engine = FakeEngine(seconds_per_batch=0.1)
    async with Batcher([engine.infer], CONFIG) as batcher:
        await batcher.submit("learn")
        with pytest.raises(DeadlineError) as caught:
            await batcher.submit("late", deadline=now() + 0.05)
        assert caught.value.reason == "INFEASIBLE"
    assert engine.batches == [["learn"]]


@virtual_time
async def test_an_old_prediction_does_not_refuse_for_ever() -> None:
    engine = FakeEngine(seconds_per_batch=0.1)
    async with Batcher([engine.infer], CONFIG) as batcher:
        await batcher.submit("slow")
        engine.seconds = (0.01, 0.0)
        await asyncio.sleep(60)
        assert await batcher.submit("quick again", deadline=now() + 0.05) == "quick again"


@virtual_time
async def test_who_would_end_too_late_is_refused_at_once_and_the_admitted_are_in_time() -> None:
    engine = FakeEngine(seconds_per_batch=0.1)
    async with Batcher([engine.infer], BatchingConfig(max_batch_rows=1)) as batcher:
        await batcher.submit("learn")
        tasks = [submit(batcher, i, deadline=0.6) for i in range(10)]
        await asyncio.sleep(0)
        refused = [task for task in tasks if task.done()]
        assert all(isinstance(task.exception(), QueueFullError) for task in refused)
        answered = [await task for task in tasks if task not in refused]
        assert now() <= 0.6
    assert 3 <= len(answered) <= 5


@virtual_time
async def test_poison_fails_alone_and_its_mates_are_answered() -> None:
    engine = FakeEngine(seconds_per_batch=0.001, poison=frozenset([13]))
    async with Batcher([engine.infer], BatchingConfig(max_batch_rows=32)) as batcher:
        answers = await asyncio.gather(*(outcome(submit(batcher, i)) for i in range(32)))
    assert answers == [EngineError if i == 13 else i for i in range(32)]


@virtual_time
async def test_out_of_memory_halves_the_batch_and_remembers() -> None:
    engine = FakeEngine(seconds_per_batch=0.001, memory=5)
    async with Batcher([engine.infer], BatchingConfig(max_batch_rows=16)) as batcher:
        items = list(range(16))
        assert await asyncio.gather(*(batcher.submit(i) for i in items)) == items
        engine.batches.clear()
        assert await asyncio.gather(*(batcher.submit(i) for i in items)) == items
    assert [len(batch) for batch in engine.batches] == [4, 4, 4, 4]


@virtual_time
async def test_earliest_deadline_goes_first() -> None:
    engine = FakeEngine(seconds_per_batch=0.010)
    async with Batcher([engine.infer], BatchingConfig(max_batch_rows=1)) as batcher:
        tasks = [submit(batcher, "first")]
        await engine.started.wait()
        tasks += [submit(batcher, name, deadline=at) for name, at in (("z", 9), ("y", 7), ("x", 8))]
        await asyncio.gather(*tasks)
    assert engine.batches == [["first"], ["y"], ["x"], ["z"]]


@virtual_time
async def test_shapes_never_share_a_batch() -> None:
    engine = FakeEngine(seconds_per_batch=0.010)
    async with Batcher([engine.infer], CONFIG) as batcher:
        await asyncio.gather(*(batcher.submit(i, bucket=i % 2) for i in range(6)))
    assert sorted(map(sorted, engine.batches)) == [[0, 2, 4], [1, 3, 5]]


@virtual_time
async def test_classes_share_by_weight_and_none_starves() -> None:
    engine = FakeEngine(seconds_per_batch=0.010)
    config = BatchingConfig(max_batch_rows=1, max_queue_rows=1000)
    async with Batcher([engine.infer], config) as batcher:
        tasks = [
            submit(batcher, criticality, criticality=criticality)
            for criticality in Criticality
            for _ in range(100)
        ]
        await asyncio.gather(*tasks)
    first = [batch[0] for batch in engine.batches[:100]]
    shares = [100 * WEIGHTS[c] / sum(WEIGHTS.values()) for c in Criticality]
    assert [first.count(c) for c in Criticality] == pytest.approx(shares, abs=2)


@virtual_time
async def test_a_critical_arrival_displaces_the_lowest_class_of_a_full_queue() -> None:
    engine = FakeEngine(seconds_per_batch=0.010)
    async with Batcher([engine.infer], CONFIG) as batcher:
        running = submit(batcher, "a")
        await engine.started.wait()
        shed = [submit(batcher, i, criticality=Criticality.SHEDDABLE) for i in range(8)]
        await asyncio.sleep(0)
        assert await batcher.submit("vip", criticality=Criticality.CRITICAL) == "vip"
        outcomes = [await outcome(task) for task in shed]
        await running
    assert outcomes == [*range(7), QueueFullError]


@virtual_time
async def test_ledger_tells_queue_compute_and_batch_size() -> None:
    engine = FakeEngine(seconds_per_batch=0.010)
    ledger = LedgerBuilder()
    async with Batcher([engine.infer], CONFIG) as batcher:
        first = submit(batcher, "a")
        await engine.started.wait()
        await asyncio.gather(batcher.submit("b", rows=2, ledger=ledger), batcher.submit("c"), first)
    assert ledger.queue_s == pytest.approx(0.010)
    assert ledger.compute_s == pytest.approx(0.010)
    assert ledger.batch_rows == 3


@virtual_time
async def test_closing_refuses_the_queue_and_awaits_the_engine() -> None:
    engine = FakeEngine(seconds_per_batch=0.010)
    async with Batcher([engine.infer], CONFIG) as batcher:
        running = submit(batcher, "a")
        await engine.started.wait()
        waiting = submit(batcher, "b")
        await asyncio.sleep(0)
    assert await running == "a"
    assert await outcome(waiting) is NotReadyError
    with pytest.raises(NotReadyError):
        await batcher.submit("c")


@virtual_time
async def test_who_fails_after_the_next_was_cut_ahead_gets_none_of_its_answers() -> None:
    ahead: list[asyncio.Task[list[str]]] = []

    async def run(items: list[str]) -> list[str]:
        await asyncio.sleep(0.010)
        if following := batcher.cut_ahead(0):
            ahead.append(asyncio.create_task(run(following)))
        return [item for item in items if item != "lost"]

    async def infer(items: list[str]) -> list[str]:
        return await (ahead.pop(0) if ahead else run(items))

    config = BatchingConfig(max_batch_rows=2)
    async with Batcher([infer], config) as batcher:
        tasks = [submit(batcher, item) for item in ("a", "b", "lost", "c", "d", "e")]
        outcomes = [await outcome(task) for task in tasks]
    assert outcomes == ["a", "b", EngineError, EngineError, "d", "e"]


@virtual_time
async def test_engine_that_answers_too_few_fails_its_callers() -> None:
    async def infer(items: list[Any]) -> list[Any]:
        return []

    async with Batcher([infer], CONFIG) as batcher:
        assert await outcome(submit(batcher, "a")) is EngineError
