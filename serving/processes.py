"""Runs work that would hold the interpreter in processes beside the server's.

On threads, image arithmetic takes turns at the interpreter with the event loop and with its like,
and a decoder that crashes takes the server with it. A process does one piece of work at a time,
told over a socket that the event loop watches; arrays lie in memory that both share. It can give
parts of its answer ahead of the rest. What waits is bounded, because each waiting request holds its
image; beyond the bound a request is refused at once. Work whose caller has gone or whose deadline
has passed is never begun.

A process that ends (killed, out of memory, a decoder that crashed) or does not answer is replaced,
and costs nobody but the work it had: that is begun once more where the process ended by itself.
They end with the server, however that ends: each reads a socket that nobody else holds.
"""

import asyncio
import logging
from collections import deque
from collections.abc import Callable, Generator, Mapping, Sequence
from contextlib import suppress
from functools import partial
from types import TracebackType
from typing import Any, ParamSpec, TypeVar

from serving import request, telemetry
from serving.arena import Large
from serving.errors import EngineError, NotReadyError, QueueFullError
from serving.process import Process, Work

log = logging.getLogger(__name__)

_PAUSE_S = 1.0  # before a process that has never answered is replaced
_MAX_BEGUN = 2  # times that work may be begun
_LARGE_BYTES = 4096  # from here bytes go through the shared memory

Arguments = ParamSpec("Arguments")
Part = TypeVar("Part")
Result = TypeVar("Result")


class Processes:
    """A bounded pool of processes; an async context manager. Belongs to one event loop.

    Functions, arguments, answers and errors travel as pickles: a function is one of a module.
    """

    def __init__(self, name: str, process_count: int, max_waiting: int) -> None:
        self._name, self._max_waiting = name, max_waiting
        self._process_count = process_count
        self._processes: set[Process] = set()
        self._idle: list[Process] = []
        self._waiting: deque[Work] = deque()
        self._replacing: set[asyncio.Task[None]] = set()
        self._closed = False
        self._replaced = telemetry.PROCESSES_REPLACED.labels(name)

    async def __aenter__(self) -> "Processes":
        for _ in range(self._process_count):
            await self._start()
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._closed = True
        for task in self._replacing:
            task.cancel()
        await asyncio.gather(*self._replacing, return_exceptions=True)
        for work in self._waiting:
            work.answer.cancel()
        await asyncio.gather(*(process.end() for process in self._processes))

    async def run(
        self,
        function: Callable[Arguments, Result],
        *arguments: Arguments.args,
        **named: Arguments.kwargs,
    ) -> Result:
        """Returns `function(...)`, computed in a process; its time goes to the call's ledger.

        Raises what it raises, `QueueFullError` when too much waits, `DeadlineError` when the turn
        comes late, `NotReadyError` when the pool has ended, and `EngineError` when its process ends
        twice or does not answer.
        """
        answer: Result = await self._do(_ignore, function, arguments, named)
        return answer

    async def follow(
        self,
        heard: Callable[[Part], None],
        steps: Callable[Arguments, Generator[Part, None, Result]],
        *arguments: Arguments.args,
        **named: Arguments.kwargs,
    ) -> Result:
        """As `run`, for a generator: `heard` gets each value that it yields, once.

        A caller who leaves, or an error of `heard`, stops it at its next value.
        """
        answer: Result = await self._do(heard, steps, arguments, named)
        return answer

    async def _do(
        self,
        heard: Callable[[Any], None],
        function: Callable[..., Any],
        arguments: Sequence[Any],
        named: Mapping[str, Any],
    ) -> Any:
        if self._closed:
            raise NotReadyError("draining")
        if not self._idle and len(self._waiting) >= self._max_waiting:
            raise QueueFullError(self._name, f"{self._max_waiting} waiting", retry_after_s=0.1)
        call = partial(function, *map(_by_memory, arguments), **named)
        work = Work(call, heard, asyncio.get_running_loop().create_future(), request.current())
        self._waiting.append(work)
        if self._idle:
            self._next(self._idle.pop())
        try:
            return await work.answer
        except asyncio.CancelledError:
            self._abandon(work)
            raise
        finally:
            del work, call, arguments  # an error, its traceback and this frame would keep the image

    def _abandon(self, work: Work) -> None:
        with suppress(ValueError):
            self._waiting.remove(work)
        for process in self._processes:
            if process.work is work:
                process.arena.is_wanted = False

    def _next(self, process: Process) -> None:
        """Gives an idle process what has waited longest."""
        while self._waiting:
            work = self._waiting.popleft()
            if work.begin() and process.begin(work):
                return
        self._idle.append(process)

    async def _start(self) -> None:
        """Raises `OSError`."""
        process = await Process.start(self._next, self._ended)
        self._processes.add(process)
        self._next(process)

    def _ended(self, process: Process) -> None:
        if self._closed:
            if process.work:
                process.work.answer.cancel()
            return
        self._processes.discard(process)
        with suppress(ValueError):
            self._idle.remove(process)
        if work := process.work:
            if work.begun_count < _MAX_BEGUN:
                self._waiting.appendleft(work)
            else:
                text = f"{self._name}: the process ended {_MAX_BEGUN} times"
                work.settle(None, EngineError(text))
        self._replaced.inc()
        pause_s = 0.0 if process.has_answered else _PAUSE_S
        task = asyncio.get_running_loop().create_task(self._replace(process, pause_s))
        self._replacing.add(task)
        task.add_done_callback(self._replacing.discard)

    async def _replace(self, process: Process, pause_s: float) -> None:
        await process.end()
        while True:
            await asyncio.sleep(pause_s)
            try:
                return await self._start()
            except OSError as error:
                log.error("%s: no new process could be started: %s", self._name, error)
                pause_s = _PAUSE_S


def _by_memory(argument: Any) -> Any:
    is_large = type(argument) is bytes and len(argument) >= _LARGE_BYTES
    return Large(argument) if is_large else argument


def _ignore(part: Any) -> None:
    pass
