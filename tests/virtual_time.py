"""A virtual clock: time passes only when every task waits, and then at once to the next timer.

@virtual_time
async def test_ten_seconds_pass_in_no_time(): ...
"""

import asyncio
import functools
import selectors
from collections.abc import Awaitable, Callable
from typing import Any


class _Selector(selectors.SelectSelector):
    """Instead of waiting for a timer, moves the loop's clock to it."""

    loop: "VirtualLoop"

    def select(self, timeout: float | None = None) -> list[Any]:
        ready = super().select(0)
        if ready or timeout == 0:
            return ready
        if timeout is None:
            raise RuntimeError("deadlock: every task waits and no timer is set")
        self.loop.now = self.loop.next_timer(self.loop.now + timeout)
        return []


class VirtualLoop(asyncio.SelectorEventLoop):
    """An event loop on virtual time, which starts at 0."""

    def __init__(self) -> None:
        self.now = 0.0
        selector = _Selector()
        selector.loop = self
        super().__init__(selector)

    def time(self) -> float:
        return self.now

    def next_timer(self, about: float) -> float:
        """Returns the exact time of the timer at `about`: rounded short of it, it would spin."""
        timers: list[asyncio.TimerHandle] = self._scheduled  # type: ignore[attr-defined]
        when = timers[0].when() if timers else about
        return when if abs(when - about) < 1e-6 else about


def now() -> float:
    """Returns the virtual time, in seconds since the test began."""
    return asyncio.get_running_loop().time()


def run_virtually(main: Awaitable[Any]) -> Any:
    """Runs a coroutine on a fresh virtual loop and returns its result."""
    with asyncio.Runner(loop_factory=VirtualLoop) as runner:
        return runner.run(main)  # type: ignore[arg-type]


def virtual_time(test: Callable[..., Awaitable[None]]) -> Callable[..., None]:
    """Makes an async test run on virtual time."""

    @functools.wraps(test)
    def run(*args: Any, **kwargs: Any) -> None:
        run_virtually(test(*args, **kwargs))

    return run
