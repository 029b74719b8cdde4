"""One child process with its log, from its start to its end."""

import asyncio
import os
import signal
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from cluster.procfs import ProcessId

TAIL_LINES = 15


@dataclass(frozen=True, slots=True)
class ServerPlan:
    """How one server is started and where it is asked whether it serves."""

    name: str
    command: tuple[str, ...]
    target: str  # host:port of its gRPC listener
    log: Path
    folder: Path  # the server's working directory
    environment: Mapping[str, str]


class ServerProcess:
    """A running server. Its own session, so that Ctrl-C reaches the supervisor alone."""

    def __init__(self, process: asyncio.subprocess.Process) -> None:
        self._process = process
        self.id = ProcessId.of_child(process.pid)

    @classmethod
    async def start(cls, plan: ServerPlan) -> "ServerProcess":
        """Starts the server, its output appended to the log. Raises `OSError` if it cannot."""
        with plan.log.open("ab") as log:
            process = await asyncio.create_subprocess_exec(
                *plan.command,
                stdin=asyncio.subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                cwd=plan.folder,
                env={**os.environ, **plan.environment},
                start_new_session=True,
            )
        return cls(process)

    async def wait(self) -> int:
        """Waits for its end; the exit code, negative for the signal that killed it."""
        return await self._process.wait()

    async def stop(self, grace_s: float, hurry: asyncio.Event) -> int:
        """Asks it to end; kills it after `grace_s`, or as soon as `hurry` is set."""
        self._send(signal.SIGTERM)
        ended = asyncio.ensure_future(self.wait())
        hurried = asyncio.ensure_future(hurry.wait())
        try:
            await asyncio.wait(
                (ended, hurried), timeout=grace_s, return_when=asyncio.FIRST_COMPLETED
            )
        finally:
            hurried.cancel()
            if not ended.done():
                self._send(signal.SIGKILL)
        return await ended

    def _send(self, number: signal.Signals) -> None:
        if self._process.returncode is None:
            self._process.send_signal(number)


def module_command(module: str) -> tuple[str, ...]:
    """Runs a module with the Python that runs this command."""
    return (sys.executable, "-m", module)


def ending(code: int) -> str:
    """Says how a process ended: `exit code 1`, `SIGKILL`."""
    if code >= 0:
        return f"exit code {code}"
    return signal.Signals(-code).name


def last_lines(log: Path, start: int = 0) -> Sequence[str]:
    """The last lines of a log, of what was written after byte `start`."""
    if not log.exists():
        return ()
    with log.open("rb") as file:
        file.seek(start)
        text = file.read().decode(errors="replace")
    return text.splitlines()[-TAIL_LINES:]
