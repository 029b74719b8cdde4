"""A lull: the moment at which the event loop has nothing better to do.

While it has other work at hand, more callers come out of that work, and who waits for them loses
little: his own call would have made them later. So the wait ends with the first turn of the loop
that was short. A loop that serves one request alone has such a turn at once.
"""

import asyncio
from collections.abc import Callable

IDLE_TURN_S = 0.00025  # a turn shorter than this had no request's work in it


def call_in_lull(then: Callable[[], None], latest: Callable[[], float]) -> None:
    """Calls `then` after the next short turn of the running loop, by `latest()` at the latest."""
    loop = asyncio.get_running_loop()

    def turn(last: float) -> None:
        now = loop.time()
        if now - last < IDLE_TURN_S or now >= latest():
            then()
        else:
            loop.call_soon(turn, now)

    loop.call_soon(turn, loop.time())
