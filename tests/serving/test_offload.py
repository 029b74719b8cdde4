import asyncio
import threading

import pytest

from serving import request
from serving.errors import DeadlineError, QueueFullError
from serving.offload import Threads


async def test_work_runs_on_a_thread_and_its_time_is_in_the_ledger() -> None:
    facts = request.CallFacts()
    request.enter(facts)
    async with Threads("tests", thread_count=1, max_waiting=1) as threads:
        name = await threads.run(lambda: threading.current_thread().name)
    assert name.startswith("tests")
    assert facts.ledger.preprocess_s > 0


async def test_errors_reach_the_caller() -> None:
    async with Threads("tests", 1, 1) as threads:
        with pytest.raises(ZeroDivisionError):
            await threads.run(lambda: 1 / 0)


async def test_more_than_may_wait_is_refused_and_room_comes_back() -> None:
    gate = threading.Event()
    async with Threads("tests", thread_count=1, max_waiting=1) as threads:
        held = [asyncio.create_task(threads.run(gate.wait)) for _ in range(2)]
        await asyncio.sleep(0)
        with pytest.raises(QueueFullError, match="tests is full: 1 waiting"):
            await threads.run(int)
        gate.set()
        assert await asyncio.gather(*held) == [True, True]
        assert await threads.run(int) == 0


async def test_cancelled_and_late_work_is_never_begun() -> None:
    gate, begun = threading.Event(), []
    async with Threads("tests", thread_count=1, max_waiting=4) as threads:
        holder = asyncio.create_task(threads.run(gate.wait))
        await asyncio.sleep(0)
        cancelled = asyncio.create_task(threads.run(begun.append, "cancelled"))
        await asyncio.sleep(0)
        request.enter(request.CallFacts(deadline=asyncio.get_running_loop().time() - 1))
        late = asyncio.create_task(threads.run(begun.append, "late"))
        await asyncio.sleep(0)
        cancelled.cancel()
        await asyncio.wait([cancelled])  # it is out of the threads' queue before they go on
        gate.set()
        await holder
        with pytest.raises(DeadlineError):
            await late
    assert begun == []
