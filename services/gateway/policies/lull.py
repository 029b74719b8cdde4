"""A lull: the moment at which the event loop has nothing better to do.

While it has other work at hand, more callers come out of that work, and who waits for them loses
little: his own call would have made them later. So the wait ends with the first few turns of the
loop that were hardly longer than one without any work. A loop that serves one request alone has
such turns at once.
"""

import asyncio
from collections.abc import Callable

SLACK = 2.0  # times the shortest turn: so much longer may one be that has no request's work in it
# Turns of less than 250 µs that passed for lulls whatever was known sent 2.7 times as many calls
# over the wire, for 64 callers, as turns of less than 50.
MIN_IDLE_S, MAX_IDLE_S = 0.00003, 0.00025
# In a row: after one the next request's bytes may be on their way from the kernel. 64 callers met
# by eleven instead of seven, and cost 14 % less; by thirteen after 32, which cost the lone more.
IDLE_TURNS = 8
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

    def call(self, then: Then, latest: Latest) -> None:
        """Calls `then` in the next lull, by `latest()` at the latest."""
        if not self._waiting:
            loop = asyncio.get_running_loop()
            self._last_turn, self._idle_turns = loop.time(), 0
            loop.call_soon(self._turn)
        self._waiting.append((then, latest))

    def _turn(self) -> None:
        loop = asyncio.get_running_loop()
        now = loop.time()
        self._idle_turns = self._idle_turns + 1 if self._is_idle(now - self._last_turn) else 0
        self._last_turn = now
        if self._idle_turns >= IDLE_TURNS:
            due, self._waiting = self._waiting, []
        elif due := [one for one in self._waiting if one[1]() <= now]:
            self._waiting = [one for one in self._waiting if one not in due]
        if self._waiting:
            loop.call_soon(self._turn)
        for then, _ in due:
            then()

    def _is_idle(self, took_s: float) -> bool:
        shortest_s = min(took_s, self._shortest_s * _FORGET, MAX_IDLE_S / SLACK)
        self._shortest_s = max(shortest_s, MIN_IDLE_S / SLACK)
        return took_s <= SLACK * self._shortest_s
