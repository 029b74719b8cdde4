"""An instance: one loaded engine and the thread that alone may call it."""

import asyncio
import threading
from collections.abc import Callable
from queue import SimpleQueue
from typing import Any, TypeVar

from serving.engines.engine import Engine

Result = TypeVar("Result")
_Job = tuple[Callable[[Engine], Any], asyncio.Future[Any], asyncio.AbstractEventLoop]


class Instance:
    """Runs functions on its engine, one after the other, on a thread of its own.

    The thread is a daemon, so that an engine stuck in native code cannot keep the process alive;
    `close` waits for what runs.
    """

    def __init__(self, engine: Engine, name: str) -> None:
        self.engine = engine
        self._jobs: SimpleQueue[_Job | None] = SimpleQueue()
        self._thread = threading.Thread(target=self._serve, name=name, daemon=True)
        self._thread.start()

    async def run(self, function: Callable[[Engine], Result]) -> Result:
        """Returns `function(engine)`, computed on the instance's thread."""
        loop = asyncio.get_running_loop()
        future: asyncio.Future[Result] = loop.create_future()
        self._jobs.put((function, future, loop))
        return await future

    async def close(self) -> None:
        """Ends the thread after what it is doing and frees the engine."""
        self._jobs.put(None)
        await asyncio.get_running_loop().run_in_executor(None, self._thread.join)
        del self.engine

    def _serve(self) -> None:
        while (job := self._jobs.get()) is not None:
            function, future, loop = job
            try:
                result = function(self.engine)
            except Exception as error:  # the boundary: reported to the waiting caller
                loop.call_soon_threadsafe(_set_error, future, error)
            else:
                loop.call_soon_threadsafe(_set_result, future, result)
                del result
            del job, function, future  # an idle thread keeps no batch alive


def _set_result(future: asyncio.Future[Any], result: Any) -> None:
    if not future.done():
        future.set_result(result)


def _set_error(future: asyncio.Future[Any], error: Exception) -> None:
    if not future.done():
        future.set_exception(error)
