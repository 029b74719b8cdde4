import asyncio
from typing import Any

import pytest

from serving.errors import DeadlineError, EngineError
from serving.request import LedgerBuilder
from serving.scheduling.batcher import Batcher
from serving.scheduling.instances import BatchTooLargeError
from serving.scheduling.scheduler import BatchingConfig
from tests.fakes import FakeEngine
from tests.virtual_time import now, virtual_time

CONFIG = BatchingConfig(max_batch_rows=4, max_queue_rows=8)


class SmallTexts:
    """Answers texts of one letter where they stand, and longer ones not at all."""

    def __init__(self) -> None:
        self.answered: list[str] = []

    def is_shorter(self, item: str) -> bool:
        return len(item) == 1

    def infer(self, item: str) -> str:
        if item == "!":
            raise ValueError(item)
        if item == "*":
            raise BatchTooLargeError
        self.answered.append(item)
        return item.upper()


def batcher_of(*engines: FakeEngine, shortcuts: list[SmallTexts]) -> Batcher[Any, Any]:
    return Batcher([engine.infer for engine in engines], CONFIG, "shortcuts", shortcuts)


@virtual_time
async def test_short_work_is_done_where_it_stands_and_long_work_by_the_instance() -> None:
    engine, shortcut, ledger = FakeEngine(0.010), SmallTexts(), LedgerBuilder()
    async with batcher_of(engine, shortcuts=[shortcut]) as batcher:
        assert await batcher.submit("a", rows=3, ledger=ledger) == "A"
        assert await batcher.submit("long") == "long"
    assert (shortcut.answered, engine.batches) == (["a"], [["long"]])
    assert (ledger.queue_s, ledger.batch_rows) == (0.0, 3)


@virtual_time
async def test_nobody_takes_the_shortcut_past_a_busy_instance_or_those_who_wait() -> None:
    engine, shortcut = FakeEngine(0.010), SmallTexts()
    async with batcher_of(engine, shortcuts=[shortcut]) as batcher:
        running = asyncio.create_task(batcher.submit("long"))
        await engine.started.wait()
        assert await asyncio.gather(batcher.submit("a"), batcher.submit("b")) == ["a", "b"]
        assert await running == "long"
        assert await batcher.submit("c") == "C"  # idle again
    assert engine.batches == [["long"], ["a", "b"]]


@virtual_time
async def test_the_shortcut_is_that_of_an_idle_instance() -> None:
    engines, shortcuts = [FakeEngine(0.010), FakeEngine(0.010)], [SmallTexts(), SmallTexts()]
    async with batcher_of(*engines, shortcuts=shortcuts) as batcher:
        running = asyncio.create_task(batcher.submit("long"))
        await asyncio.sleep(0.005)
        assert await batcher.submit("a") == "A"
        assert now() == pytest.approx(0.005)
        await running
    busy = [bool(engine.batches) for engine in engines]
    assert [bool(shortcut.answered) for shortcut in shortcuts] == [not used for used in busy]


@virtual_time
async def test_failure_on_the_shortcut_is_its_callers_alone() -> None:
    engine, shortcut = FakeEngine(0.010), SmallTexts()
    async with batcher_of(engine, shortcuts=[shortcut]) as batcher:
        with pytest.raises(EngineError, match="shortcuts failed"):
            await batcher.submit("!")
        assert await batcher.submit("a") == "A"
    assert engine.batches == []


@virtual_time
async def test_what_has_no_memory_on_the_shortcut_goes_the_long_way() -> None:
    engine, shortcut = FakeEngine(0.010), SmallTexts()
    async with batcher_of(engine, shortcuts=[shortcut]) as batcher:
        assert await batcher.submit("*") == "*"
    assert engine.batches == [["*"]]


@virtual_time
async def test_an_expired_request_takes_no_shortcut() -> None:
    engine, shortcut = FakeEngine(0.010), SmallTexts()
    async with batcher_of(engine, shortcuts=[shortcut]) as batcher:
        with pytest.raises(DeadlineError):
            await batcher.submit("a", deadline=now())
    assert (shortcut.answered, engine.batches) == ([], [])
