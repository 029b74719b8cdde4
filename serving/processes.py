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
import os
import socket
import sys
import time
from collections import deque
from collections.abc import Callable, Generator, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from functools import partial
from types import TracebackType
from typing import Any, ParamSpec, TypeVar

from serving import beside, request, telemetry
from serving.arena import Arena, Large, new_memory
from serving.errors import DeadlineError, EngineError, QueueFullError

log = logging.getLogger(__name__)

LIMIT_S = 30.0  # for one piece of work; the worst picture that is accepted takes one or two
_END_S = 5.0  # for a process to end by itself
_PAUSE_S = 1.0  # before a process that has never answered is replaced
_MAX_BEGUN = 2  # times that work may be begun
_LARGE_BYTES = 4096  # from here bytes go through the shared memory
_ONE_THREAD = {"OMP_NUM_THREADS": "1", "OPENBLAS_NUM_THREADS": "1"}  # the processes are the threads

Arguments = ParamSpec("Arguments")
Part = TypeVar("Part")
Result = TypeVar("Result")


@dataclass(slots=True, eq=False)
class _Work:
    """A caller's piece of work and the way back to him."""

    call: Callable[[], Any]
    heard: Callable[[Any], None]
    answer: asyncio.Future[Any]
    facts: request.CallFacts
    since: float = field(default_factory=time.perf_counter)  # it waits, or is being done
    begun_count: int = 0
    heard_count: int = 0

    def begin(self) -> bool:
        """Counts a beginning; False when it would come too late, or nobody waits any more."""
        if self.answer.done():
            return False
        now = time.perf_counter()
        self.facts.ledger.queue_s += now - self.since
        self.since = now
        self.begun_count += 1
        if self.answer.get_loop().time() > self.facts.deadline:
            self.settle(None, DeadlineError.expired())
            return False
        return True

    def settle(self, value: Any, error: Exception | None = None) -> None:
        """Tells the caller, if he still waits."""
        if self.answer.done():
            return
        if self.begun_count:
            self.facts.ledger.preprocess_s += time.perf_counter() - self.since
        if error is None:
            self.answer.set_result(value)
        else:
            self.answer.set_exception(error)


class Processes:
    """A bounded pool of processes; an async context manager. Belongs to one event loop.

    Functions, arguments, answers and errors travel as pickles: a function is one of a module.
    """

    def __init__(self, name: str, process_count: int, max_waiting: int) -> None:
        self._name, self._max_waiting = name, max_waiting
        self._process_count = process_count
        self._processes: set[_Process] = set()
        self._idle: list[_Process] = []
        self._waiting: deque[_Work] = deque()
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
        comes late, and `EngineError` when its process ends twice or does not answer.
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
        if not self._idle and len(self._waiting) >= self._max_waiting:
            raise QueueFullError(self._name, f"{self._max_waiting} waiting", retry_after_s=0.1)
        call = partial(function, *map(_by_memory, arguments), **named)
        work = _Work(call, heard, asyncio.get_running_loop().create_future(), request.current())
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

    def _abandon(self, work: _Work) -> None:
        with suppress(ValueError):
            self._waiting.remove(work)
        for process in self._processes:
            if process.work is work:
                process.arena.is_wanted = False

    def _next(self, process: "_Process") -> None:
        """Gives an idle process what has waited longest."""
        while self._waiting:
            work = self._waiting.popleft()
            if work.begin() and process.begin(work):
                return
        self._idle.append(process)

    async def _start(self) -> None:
        """Raises `OSError`."""
        process = await _Process.start(self._next, self._ended)
        self._processes.add(process)
        self._next(process)

    def _ended(self, process: "_Process") -> None:
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

    async def _replace(self, process: "_Process", pause_s: float) -> None:
        await process.end()
        while True:
            await asyncio.sleep(pause_s)
            try:
                return await self._start()
            except OSError as error:
                log.error("%s: no new process could be started: %s", self._name, error)
                pause_s = _PAUSE_S


class _Process(asyncio.Protocol):
    """One process, the socket to it and the memory it shares."""

    def __init__(
        self,
        child: asyncio.subprocess.Process,
        arena: Arena,
        is_free: Callable[["_Process"], None],
        has_ended: Callable[["_Process"], None],
    ) -> None:
        self.arena = arena
        self.work: _Work | None = None
        self.has_answered = False
        self._child, self._is_free, self._has_ended = child, is_free, has_ended
        self._received = bytearray()
        self._part_count = 0
        self._timer: asyncio.TimerHandle | None = None

    @classmethod
    async def start(
        cls, is_free: Callable[["_Process"], None], has_ended: Callable[["_Process"], None]
    ) -> "_Process":
        """Calls `is_free` after each piece of work, and `has_ended` once. Raises `OSError`."""
        ours, theirs = socket.socketpair()
        memory = new_memory()
        passed = (theirs.fileno(), memory)
        try:
            child = await asyncio.create_subprocess_exec(
                *(sys.executable, "-m", beside.__name__, *map(str, passed)),
                env={**os.environ, **_ONE_THREAD, "PYTHONPATH": os.pathsep.join(sys.path)},
                stdin=asyncio.subprocess.DEVNULL,
                pass_fds=passed,
                process_group=0,  # not that of a terminal, whose ctrl-C is the server's to hear
            )
            process = cls(child, Arena(memory), is_free, has_ended)
        except BaseException:
            ours.close()
            raise
        finally:
            theirs.close()
            os.close(memory)
        await asyncio.get_running_loop().create_unix_connection(lambda: process, sock=ours)
        return process

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        assert isinstance(transport, asyncio.WriteTransport)
        self._transport = transport

    def begin(self, work: _Work) -> bool:
        """Hands the work over, or tells its caller why it cannot travel; False then."""
        try:
            message = self.arena.work.dump(work.call)
        except Exception as error:  # the boundary: whatever pickle has to say
            self.arena.work.clear()
            work.settle(None, error)
            return False
        self.work, self._part_count = work, 0
        self.arena.is_wanted = not work.answer.done()
        self._transport.write(beside.framed(message))
        self._timer = asyncio.get_running_loop().call_later(LIMIT_S, self._stuck)
        return True

    def data_received(self, data: bytes) -> None:
        """Takes the answers, in whatever pieces they come."""
        self._received += data
        head = beside.LENGTH_BYTES
        while len(self._received) >= head:
            end = head + int.from_bytes(self._received[:head], "big")
            if len(self._received) < end:
                return
            message = bytes(self._received[head:end])
            del self._received[:end]
            self._heard(*self.arena.answers.load(message, keep=True))

    def _heard(self, kind: int, value: Any) -> None:
        self.has_answered = True
        work = self.work
        if work is None:  # it was stuck, and is about to end
            return
        if kind == beside.PART:
            self._hear_part(work, value)
            return
        self._rest()
        if kind == beside.RESULT:
            work.settle(value)
        else:
            work.settle(None, value)
        self._is_free(self)

    def _hear_part(self, work: _Work, value: Any) -> None:
        self._part_count += 1
        if self._part_count <= work.heard_count or work.answer.done():
            return  # heard before: this is the second attempt
        work.heard_count += 1
        try:
            work.heard(value)
        except Exception as error:  # the boundary: the caller's own
            self.arena.is_wanted = False
            work.settle(None, error)

    def _rest(self) -> None:
        self.work = None
        self.arena.work.clear()
        if self._timer:
            self._timer.cancel()

    def _stuck(self) -> None:
        if work := self.work:
            work.settle(None, EngineError(f"no answer from a process in {LIMIT_S:g} s"))
        self._rest()
        self._child.kill()

    def connection_lost(self, error: Exception | None) -> None:
        """The process has ended, or is told to."""
        if self._timer:
            self._timer.cancel()
        self._has_ended(self)

    async def end(self) -> None:
        """Lets it finish what it does, and stops it when that takes long."""
        self._transport.close()
        try:
            await asyncio.wait_for(self._child.wait(), _END_S)
        except TimeoutError:
            self._child.kill()
            await self._child.wait()


def _by_memory(argument: Any) -> Any:
    is_large = type(argument) is bytes and len(argument) >= _LARGE_BYTES
    return Large(argument) if is_large else argument


def _ignore(part: Any) -> None:
    pass
