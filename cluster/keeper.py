"""Keeps one server running: starts it, waits until it serves, starts it again when it ends.

The pause before a restart doubles with each end in a row and is back at its first value once the
server has served for a while. A server that ends before it has ever served is the fault of its
installation, not of the moment: after a few tries the whole start fails, with the end of its log.
"""

import asyncio
from collections.abc import Awaitable, Callable
from contextlib import suppress
from dataclasses import dataclass
from enum import StrEnum

from cluster.health import until_serving
from cluster.process import ServerPlan, ServerProcess, ending, last_lines
from cluster.procfs import ProcessId


@dataclass(frozen=True, slots=True)
class RestartConfig:
    """When a server that ended is started again."""

    first_pause_s: float = 0.2  # >= 0
    factor: float = 2.0  # of each further pause, >= 1
    longest_pause_s: float = 10.0
    steady_s: float = 30.0  # after serving this long, the next pause is the first again
    start_attempts: int = 2  # before it has ever served, >= 1
    grace_s: float = 35.0  # from SIGTERM to SIGKILL; above a server's drain grace
    failed_grace_s: float = 2.0  # the same, when the start has failed and nothing was accepted

    def pause_s(self, ends_in_a_row: int) -> float:
        """Seconds before the restart that follows the given number of ends in a row, >= 1."""
        return min(self.first_pause_s * self.factor ** (ends_in_a_row - 1), self.longest_pause_s)


class Kind(StrEnum):
    STARTED = "started"
    SERVING = "serving"
    ENDED = "ended"
    STOPPED = "stopped"


@dataclass(frozen=True, slots=True)
class Event:
    """Something that happened to a server, with words for people."""

    server: str
    kind: Kind
    text: str
    process: ProcessId
    restarts: int = 0


class ServerFailedError(Exception):
    """A server ended again and again before it ever served; holds the end of its log."""

    def __init__(self, plan: ServerPlan, why: str, lines: tuple[str, ...]) -> None:
        super().__init__(f"{plan.name} does not start: {why}")
        self.plan, self.lines = plan, lines


Report = Callable[[Event], None]
Ready = Callable[[str], Awaitable[None]]


class Keeper:
    """One server, kept running from `keep` to `stop`."""

    def __init__(
        self,
        plan: ServerPlan,
        config: RestartConfig,
        report: Report,
        ready: Ready = until_serving,
    ) -> None:
        self.plan = plan
        self.has_served = asyncio.Event()
        self._config = config
        self._report_to = report
        self._ready = ready
        self._process: ServerProcess | None = None
        self._last_id = ProcessId(0, 0)
        self._stopping = asyncio.Event()
        self._starts = 0
        self._log_start = 0  # of the current run, in bytes

    async def keep(self) -> None:
        """Runs until `stop`. Raises `ServerFailedError` if the server never gets to serve."""
        ends = 0
        while not self._stopping.is_set():
            served_s, code = await self._run_once()
            if self._stopping.is_set():
                return
            ends = 1 if served_s >= self._config.steady_s else ends + 1
            self._check_start(ends, code)
            pause_s = self._config.pause_s(ends)
            self._report(Kind.ENDED, f"ended ({ending(code)}), starts again in {pause_s:.1f} s")
            await self._pause(pause_s)

    async def stop(self, hurry: asyncio.Event) -> None:
        """Ends the server, gently at first, and keeps it ended."""
        self._stopping.set()
        if self._process is not None:
            code = await self._process.stop(self._config.grace_s, hurry)
            self._report(Kind.STOPPED, "stopped" if code == 0 else f"stopped ({ending(code)})")

    async def _run_once(self) -> tuple[float, int]:
        """Runs the server to its end; returns for how long it served, in s, and its exit code."""
        loop = asyncio.get_running_loop()
        began = loop.time()
        self._log_start = self.plan.log.stat().st_size if self.plan.log.exists() else 0
        self._process = process = await ServerProcess.start(self.plan)
        self._last_id = process.id
        self._starts += 1
        self._report(Kind.STARTED, f"starts as process {self._process.id.pid}")
        ready = asyncio.create_task(self._until_ready(began))
        try:
            if self._stopping.is_set():  # it was asked to stop while it was being started
                await process.stop(self._config.grace_s, asyncio.Event())
            code = await process.wait()
            served = ready.done() and not ready.cancelled()
            return (loop.time() - ready.result() if served else 0.0), code
        finally:
            ready.cancel()
            self._process = None
            if not self._stopping.is_set():  # cancelled, as another server cannot start
                await process.stop(self._config.failed_grace_s, asyncio.Event())

    async def _until_ready(self, began: float) -> float:
        await self._ready(self.plan.target)
        now = asyncio.get_running_loop().time()
        self.has_served.set()
        self._report(Kind.SERVING, f"serves on {self.plan.target} after {now - began:.1f} s")
        return now

    def _check_start(self, ends: int, code: int) -> None:
        if not self.has_served.is_set() and ends >= self._config.start_attempts:
            lines = tuple(last_lines(self.plan.log, self._log_start))
            raise ServerFailedError(self.plan, ending(code), lines)

    async def _pause(self, seconds: float) -> None:
        with suppress(TimeoutError):
            await asyncio.wait_for(self._stopping.wait(), seconds)

    def _report(self, kind: Kind, text: str) -> None:
        restarts = max(self._starts - 1, 0)
        self._report_to(Event(self.plan.name, kind, text, self._last_id, restarts))
