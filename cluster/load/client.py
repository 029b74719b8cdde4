"""Drives one target from one event loop: open loop by a schedule, or closed loop by callers.

The loop must have a finer clock than asyncio's default selector, which rounds timers up to a
millisecond: `fine_loop` gives one.
"""

import asyncio
import selectors
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field

import numpy as np

from cluster.load.arrivals import Offsets
from cluster.load.outcomes import OK, Outcomes

GRACE_S = 2.0  # after the last deadline, for answers on their way; then a call counts as unanswered
_EARLY_S = 1e-6  # a timer may fire this much early; without it the loop would spin there

Call = Callable[[int, float], Awaitable[int]]
"""Makes call number `index` with a timeout in seconds; returns its status, an index in `LABELS`."""


def fine_loop() -> asyncio.AbstractEventLoop:
    """Makes an event loop whose timers are exact to some 0.1 ms."""
    return asyncio.SelectorEventLoop(selectors.SelectSelector())


@dataclass(slots=True)
class OpenLoop:
    """Sends each call at its time, answered or not what came before; `outcomes` fill as it runs."""

    call: Call
    offsets: Offsets
    timeout_s: float
    first_index: int = 0
    index_step: int = 1
    outcomes: Outcomes = field(init=False)
    sent: int = 0
    done: int = 0
    _tasks: set[asyncio.Task[None]] = field(default_factory=set)
    _all_sent: asyncio.Event = field(default_factory=asyncio.Event)
    _start: float = 0.0

    def __post_init__(self) -> None:
        self.outcomes = Outcomes.of(self.offsets)

    async def run(self, start: float) -> Outcomes:
        """Runs the schedule from `start`, a time of the loop's clock; returns what became of it.

        A call's deadline is its intended time plus the timeout. Bounded: what has not ended
        `GRACE_S` after the last deadline is cancelled and stays unanswered.
        """
        self._start = start
        loop = asyncio.get_running_loop()
        loop.call_at(start, self._send_due)
        await self._all_sent.wait()
        if self._tasks:
            left = start + float(self.offsets[-1]) + self.timeout_s + GRACE_S - loop.time()
            _, hanging = await asyncio.wait(self._tasks, timeout=max(0.0, left))
            for task in hanging:
                task.cancel()
            if hanging:
                await asyncio.wait(hanging)
        return self.outcomes

    def _send_due(self) -> None:
        loop = asyncio.get_running_loop()
        now = loop.time() - self._start + _EARLY_S
        while self.sent < len(self.offsets) and self.offsets[self.sent] <= now:
            task = loop.create_task(self._one(self.sent))
            self._tasks.add(task)
            task.add_done_callback(self._tasks.discard)
            self.sent += 1
        if self.sent < len(self.offsets):
            loop.call_at(self._start + float(self.offsets[self.sent]), self._send_due)
        else:
            self._all_sent.set()

    async def _one(self, number: int) -> None:
        loop, outcomes = asyncio.get_running_loop(), self.outcomes
        outcomes.sent[number] = now = loop.time() - self._start
        left = float(self.offsets[number]) + self.timeout_s - now
        index = self.first_index + number * self.index_step
        status = await self.call(index, max(left, 0.001))
        outcomes.ended[number] = loop.time() - self._start
        outcomes.status[number] = status
        self.done += 1


@dataclass(frozen=True, slots=True)
class ClosedLoop:
    """What a fixed number of callers saw, each asking again once answered."""

    seconds: float
    latencies: np.ndarray[tuple[int], np.dtype[np.float64]]  # of the calls answered then, seconds
    failed_count: int
    answered: float  # calls, each by the share of its time that lies in the seconds counted

    @property
    def rate(self) -> float:
        """Answered calls a second.

        Not by counting ends: a server that answers 32 at a time, twice or thrice in the seconds
        counted, would show one of two rates that are half as far again from each other.
        """
        return self.answered / self.seconds


async def closed_loop(
    call: Call, callers: int, seconds: float, *, warm_up_s: float = 0.5, timeout_s: float = 10.0
) -> ClosedLoop:
    """Runs `callers` callers without pause: for throughput, not for latency under load.

    Latencies and failures are of the calls that ended in the time after the warm-up.
    """
    latencies: list[float] = []
    failed, answered = 0, 0.0
    clock = asyncio.get_running_loop().time
    begin = clock() + warm_up_s
    end = begin + seconds

    async def caller(number: int) -> None:
        nonlocal failed, answered
        index, now = number, clock()
        while now < end:
            status = await call(index, timeout_s)
            sent, now = now, clock()
            index += callers
            inside = max(0.0, min(now, end) - max(sent, begin))
            if status == OK and inside:
                answered += inside / (now - sent)
            if begin <= now < end:
                failed += status != OK
                if status == OK:
                    latencies.append(now - sent)

    await asyncio.gather(*(caller(number) for number in range(callers)))
    return ClosedLoop(seconds, np.array(latencies), failed, answered)
