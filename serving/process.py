"""One process beside the server: how work is handed to it, and how its answers come back."""

import asyncio
import os
import socket
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

from serving import beside, request
from serving.arena import Arena, new_memory
from serving.errors import DeadlineError, EngineError

LIMIT_S = 30.0  # for one piece of work; the worst picture that is accepted takes one or two
_END_S = 5.0  # for a process to end by itself
_ONE_THREAD = {"OMP_NUM_THREADS": "1", "OPENBLAS_NUM_THREADS": "1"}  # the processes are the threads


@dataclass(slots=True, eq=False)
class Work:
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


class Process(asyncio.Protocol):
    """One process, the socket to it and the memory it shares."""

    def __init__(
        self,
        child: asyncio.subprocess.Process,
        arena: Arena,
        is_free: Callable[["Process"], None],
        has_ended: Callable[["Process"], None],
    ) -> None:
        self.arena = arena
        self.work: Work | None = None
        self.has_answered = False
        self._child, self._is_free, self._has_ended = child, is_free, has_ended
        self._received = bytearray()
        self._part_count = 0
        self._timer: asyncio.TimerHandle | None = None

    @classmethod
    async def start(
        cls, is_free: Callable[["Process"], None], has_ended: Callable[["Process"], None]
    ) -> "Process":
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

    def begin(self, work: Work) -> bool:
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

    def _hear_part(self, work: Work, value: Any) -> None:
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
