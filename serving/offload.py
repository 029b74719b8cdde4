"""Runs work that would block the event loop (decoding, image arithmetic) on a few threads.

What waits is bounded, because each waiting request holds its image; beyond the bound a request is
refused at once. Work whose caller has gone or whose deadline has passed is never begun.
"""

import asyncio
import time
from collections.abc import Callable, Coroutine, Iterable
from concurrent.futures import ThreadPoolExecutor
from types import TracebackType
from typing import Any, ParamSpec, TypeVar, cast

from serving import request
from serving.errors import DeadlineError, QueueFullError

Arguments = ParamSpec("Arguments")
Result = TypeVar("Result")
Other = TypeVar("Other")


class Threads:
    """A bounded pool of threads; an async context manager. Belongs to one event loop."""

    def __init__(self, name: str, thread_count: int, max_waiting: int) -> None:
        self._name, self._max_waiting = name, max_waiting
        self._thread_count = thread_count
        self._pool = ThreadPoolExecutor(thread_count, thread_name_prefix=name)
        self._in_hand = 0

    async def __aenter__(self) -> "Threads":
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        loop = asyncio.get_running_loop()
        await loop.run_in_executor(None, self._pool.shutdown)

    async def run(
        self,
        function: Callable[Arguments, Result],
        *arguments: Arguments.args,
        **named: Arguments.kwargs,
    ) -> Result:
        """Returns `function(...)`, computed on a thread; its time goes to the call's ledger.

        Raises `QueueFullError` when too much waits, and `DeadlineError` when the turn comes late.
        """
        if self._in_hand >= self._thread_count + self._max_waiting:
            raise QueueFullError(self._name, f"{self._max_waiting} waiting", retry_after_s=0.1)
        facts, loop = request.current(), asyncio.get_running_loop()
        submitted = time.perf_counter()

        def work() -> Result:
            started = time.perf_counter()
            facts.ledger.queue_s += started - submitted
            if loop.time() > facts.deadline:
                raise DeadlineError.expired()
            try:
                return function(*arguments, **named)
            finally:
                facts.ledger.preprocess_s += time.perf_counter() - started

        self._in_hand += 1
        future = self._pool.submit(work)
        future.add_done_callback(lambda _: _call_soon(loop, self._leave))
        try:
            return await asyncio.wrap_future(future)
        finally:
            del (
                future
            )  # an error, its traceback and this frame would keep each other, and the image

    def _leave(self) -> None:
        self._in_hand -= 1


async def together(work: Iterable[Coroutine[Any, Any, Result]]) -> list[Result]:
    """Runs coroutines at once; the first error cancels the others and is itself raised."""
    tasks: list[asyncio.Task[Result]] = []
    try:
        async with asyncio.TaskGroup() as group:
            tasks += [group.create_task(part) for part in work]
        return [task.result() for task in tasks]
    except ExceptionGroup as error:
        raise error.exceptions[0] from None
    finally:
        tasks.clear()  # an error, its traceback, this frame and the task would keep each other


async def both(
    first: Coroutine[Any, Any, Result], second: Coroutine[Any, Any, Other]
) -> tuple[Result, Other]:
    """`together` for two coroutines of different types."""
    one, other = await together([first, second])
    return cast("tuple[Result, Other]", (one, other))


def _call_soon(loop: asyncio.AbstractEventLoop, function: Callable[[], None]) -> None:
    if not loop.is_closed():  # the last work may end after its server
        loop.call_soon_threadsafe(function)
