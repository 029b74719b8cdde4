"""An instance: one loaded engine and the thread that alone may call it."""

import asyncio
import threading
from collections.abc import Callable
from dataclasses import dataclass
from queue import SimpleQueue
from typing import Any, Generic, TypeVar

from serving.engines.engine import Engine

Result = TypeVar("Result")


@dataclass(frozen=True, slots=True)
class Job(Generic[Result]):
    """A function of the engine, and the future of an event loop that gets its result.

    `then`, called on the instance's thread when the function has returned, gives what to do next.
    """

    function: Callable[[Engine], Result]
    result: asyncio.Future[Result]
    then: Callable[[], "Job[Result] | None"] | None = None


class Instance:
    """Runs functions on its engine, one after the other, on a thread of its own.

    The thread is a daemon, so that an engine stuck in native code cannot keep the process alive;
    `close` waits for what runs.
    """

    def __init__(self, engine: Engine, name: str) -> None:
        self.engine = engine
        self._jobs: SimpleQueue[Job[Any] | None] = SimpleQueue()
        self._thread = threading.Thread(target=self._serve, name=name, daemon=True)
        self._thread.start()

    async def run(self, function: Callable[[Engine], Result]) -> Result:
        """Returns `function(engine)`, computed on the instance's thread."""
        result: asyncio.Future[Result] = asyncio.get_running_loop().create_future()
        self.begin(Job(function, result))
        return await result

    def begin(self, job: Job[Any]) -> None:
        """Has a job done, and those that follow it, after what was begun before."""
        self._jobs.put(job)

    async def close(self) -> None:
        """Ends the thread after what it is doing and frees the engine."""
        self._jobs.put(None)
        await asyncio.get_running_loop().run_in_executor(None, self._thread.join)
        del self.engine

    def _serve(self) -> None:
        while (job := self._jobs.get()) is not None:
            while job is not None:
                job = self._do(job)

    def _do(self, job: Job[Any]) -> Job[Any] | None:
        """Does a job and returns the next, which is known before anybody hears of this one's end.

        Who hears of it needs the interpreter for a while, and the next call waits for that.
        """
        following = None
        loop = job.result.get_loop()
        try:
            result = job.function(self.engine)
            if job.then:
                following = job.then()
        except Exception as error:  # the boundary: reported to the waiting caller
            loop.call_soon_threadsafe(_set_error, job.result, error)
        else:
            loop.call_soon_threadsafe(_set_result, job.result, result)
        return following


def _set_result(future: asyncio.Future[Any], result: Any) -> None:
    if not future.done():
        future.set_result(result)


def _set_error(future: asyncio.Future[Any], error: Exception) -> None:
    if not future.done():
        future.set_exception(error)
