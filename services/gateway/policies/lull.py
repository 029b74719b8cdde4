"""A lull: the moment at which the event loop has nothing better to do.

While it has other work at hand, more callers come out of that work, and who waits for them loses
little: his own call would have made them later. So the wait ends with the first few turns of the
loop that were hardly longer than one without any work. A loop that serves one request alone has
such turns at once.

In a crowd such turns tell little: those who come out of one call of a node go on together, and
part for good if the next call leaves between two of them. There a lull is a pause in which nobody
came, and costs no turns of the loop.
"""

import asyncio
from collections.abc import Callable

SLACK = 2.0  # times the shortest turn: so much longer may one be that has no request's work in it
# Turns of less than 250 µs that passed for lulls whatever was known sent 2.7 times as many calls
# over the wire, for 64 callers, as turns of less than 50.
MIN_IDLE_S, MAX_IDLE_S = 0.00003, 0.00025
IDLE_TURNS = 8  # in a row: after one the next request's bytes may be on their way from the kernel
CROWD = 8  # of those who are called for at once: few calls at low load, so that they wait for none
# Of 1, 2, 3 and 5 ms: 64 callers met by 10, 14, 14 and 15; by eight in the first lull.
PAUSE_S = 0.002
_FORGET = 1.0002  # of the shortest turn, at each: on a machine that became slower it is found again

Then = Callable[[], None]
Latest = Callable[[], float]


class Lulls:
    """Finds the lulls of the running loop; learns how long a turn of it takes at least.

    One for all who wait for lulls of a loop: each watching by itself would keep it busy.
    """

    def __init__(self) -> None:
        self._shortest_s = MAX_IDLE_S / SLACK
        self._waiting: list[tuple[Then, Latest]] = []
        self._idle_turns = 0
        self._last_turn = 0.0
        self._present = self._arrivals = 0

    def arrive(self) -> None:
        """Notes one for whom a call is to be made."""
        self._present += 1
        self._arrivals += 1

    def leave(self) -> None:
        """Notes that one who had arrived has been answered, or has gone."""
        self._present -= 1

    def call(self, then: Then, latest: Latest) -> None:
        """Calls `then` in the next lull, by `latest()` at the latest; in a crowd to the pause."""
        self._waiting.append((then, latest))
        if len(self._waiting) == 1:
            self._watch()

    def _watch(self) -> None:
        loop = asyncio.get_running_loop()
        now = loop.time()
        if self._present < CROWD:
            self._last_turn, self._idle_turns = now, 0
            loop.call_soon(self._turn)
            return
        end = now + PAUSE_S
        too_late = min(latest() for _, latest in self._waiting)
        if too_late < end:
            loop.call_at(too_late, self._pause, None)
        else:
            loop.call_at(end, self._pause, self._arrivals)

    def _turn(self) -> None:
        loop = asyncio.get_running_loop()
        now = loop.time()
        self._idle_turns = self._idle_turns + 1 if self._is_idle(now - self._last_turn) else 0
        self._last_turn = now
        if self._release(is_lull=self._idle_turns >= IDLE_TURNS):
            loop.call_soon(self._turn)

    def _pause(self, arrivals: int | None) -> None:
        """Ends a pause; a lull if there were as many arrivals at its start. None: it was cut."""
        if self._release(is_lull=arrivals == self._arrivals):
            self._watch()

    def _release(self, *, is_lull: bool) -> bool:
        """Calls all, or those for whom it is too late to wait; returns whether others wait on."""
        now = asyncio.get_running_loop().time()
        due = [one for one in self._waiting if is_lull or one[1]() <= now]
        if due:
            self._waiting = [one for one in self._waiting if one not in due]
        wait_on = bool(self._waiting)
        for then, _ in due:
            then()
        return wait_on

    def _is_idle(self, took_s: float) -> bool:
        shortest_s = min(took_s, self._shortest_s * _FORGET, MAX_IDLE_S / SLACK)
        self._shortest_s = max(shortest_s, MIN_IDLE_S / SLACK)
        return took_s <= SLACK * self._shortest_s
