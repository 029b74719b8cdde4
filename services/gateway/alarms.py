"""Alarms that hardly ever ring: ends of deadlines, moments for a second call.

A timer of the event loop costs several times an entry in a heap of our own, to set and to cancel.
So many alarms share one timer, set for the first of them.
"""

import asyncio
from collections.abc import Callable
from contextvars import copy_context
from heapq import heapify, heappop, heappush
from typing import Self

_SWEPT_FROM = 64  # entries, of which most are off: so many are nothing


class Alarm:
    """Calls its action once, in the context in which it was set, unless it is turned off before."""

    __slots__ = ("_action", "_context")

    def __init__(self, action: Callable[[], object]) -> None:
        self._action: Callable[[], object] | None = action
        self._context = copy_context()  # that of the timer is another request's

    @property
    def is_on(self) -> bool:
        return self._action is not None

    def turn_off(self) -> None:
        """Forgets the action. An alarm that has rung may be turned off, too."""
        self._action = None

    def ring(self) -> None:
        action, self._action = self._action, None
        if action is not None:
            self._context.run(action)


class Alarms:
    """Any number of alarms of one event loop; a context manager that turns off what is left."""

    def __init__(self) -> None:
        self._heap: list[tuple[float, int, Alarm]] = []
        self._set = 0
        self._sweep_at = _SWEPT_FROM
        self._timer: asyncio.TimerHandle | None = None

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._heap.clear()
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None

    def at(self, when: float, action: Callable[[], object]) -> Alarm:
        """Sets an alarm for `when` of the loop's clock. `action` raises nothing."""
        alarm = Alarm(action)
        self._set += 1
        heappush(self._heap, (when, self._set, alarm))
        if self._timer is None or when < self._timer.when():
            self._wait()
        elif len(self._heap) > self._sweep_at:
            self._sweep()
        return alarm

    def _wait(self) -> None:
        """Sets the timer for the first that is on."""
        heap = self._heap
        while heap and not heap[0][2].is_on:
            heappop(heap)
        if self._timer is not None:
            self._timer.cancel()
        first = heap[0][0] if heap else None
        loop = asyncio.get_running_loop()
        self._timer = None if first is None else loop.call_at(first, self._ring, first)

    def _ring(self, due: float) -> None:
        heap, rung = self._heap, []
        now = max(due, asyncio.get_running_loop().time())  # timers go off a clock's tick early
        while heap and heap[0][0] <= now:
            rung.append(heappop(heap)[2])
        self._wait()
        for alarm in rung:
            alarm.ring()

    def _sweep(self) -> None:
        self._heap = [entry for entry in self._heap if entry[2].is_on]
        heapify(self._heap)
        self._sweep_at = max(_SWEPT_FROM, 2 * len(self._heap))
