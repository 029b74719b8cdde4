"""A lull: the moment at which the event loop has nothing better to do.

While it has other work at hand, more callers come out of that work, and who waits for them loses
little: his own call would have made them later. So the wait ends with the first turn of the loop
that was hardly longer than one without any work. A loop that serves one request alone has such a
turn at once.
"""

import asyncio
from collections.abc import Callable

SLACK = 2.0  # times the shortest turn: so much longer may one be that has no request's work in it
# Turns of less than 250 µs that passed for lulls whatever was known sent 2.7 times as many calls
# over the wire, for 64 callers, as turns of less than 50.
MIN_IDLE_S, MAX_IDLE_S = 0.00003, 0.00025
_FORGET = 1.0002  # of the shortest turn, at each: on a machine that became slower it is found again


class Lulls:
    """Finds the lulls of the running loop; learns how long a turn of it takes at least."""

    def __init__(self) -> None:
        self._shortest_s = MAX_IDLE_S / SLACK

    def call(self, then: Callable[[], None], latest: Callable[[], float]) -> None:
        """Calls `then` after the next turn without work, by `latest()` at the latest."""
        loop = asyncio.get_running_loop()

        def turn(last: float) -> None:
            now = loop.time()
            if self._is_idle(now - last) or now >= latest():
                then()
            else:
                loop.call_soon(turn, now)

        loop.call_soon(turn, loop.time())

    def _is_idle(self, took_s: float) -> bool:
        shortest_s = min(took_s, self._shortest_s * _FORGET, MAX_IDLE_S / SLACK)
        self._shortest_s = max(shortest_s, MIN_IDLE_S / SLACK)
        return took_s <= SLACK * self._shortest_s
