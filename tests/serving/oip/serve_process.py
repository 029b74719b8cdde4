"""`fomofeed serve` as a user starts it: a process of its own, on a free port."""

import asyncio
import re
import signal
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

_LISTENING = re.compile(rb"listening on (127\.0\.0\.1:\d+)")
_SERVING = b"serve is serving"


class Served:
    """The running process; `target` is its address, `log` what it has said."""

    def __init__(self, process: asyncio.subprocess.Process) -> None:
        self.process, self.target, self.log = process, "", b""
        self._serving = asyncio.Event()
        self._reading = asyncio.create_task(self._read())  # a full pipe would stop the server

    async def wait_until_serving(self) -> None:
        await self._serving.wait()
        assert self.target, f"it did not start: {self.log.decode()}"

    async def stop(self) -> int:
        """Sends SIGTERM and returns the exit code."""
        self.process.send_signal(signal.SIGTERM)
        return await self.ended()

    async def ended(self) -> int:
        """Returns the exit code when the process has ended and all that it said was read."""
        await self._reading
        return await self.process.wait()

    async def _read(self) -> None:
        assert self.process.stderr
        async for line in self.process.stderr:
            self.log += line
            if found := _LISTENING.search(line):
                self.target = found[1].decode()
            if _SERVING in line:
                self._serving.set()
        self._serving.set()


@asynccontextmanager
async def serve(repository: Path, **settings: str) -> AsyncIterator[Served]:
    """Runs `fomofeed serve` on `repository` until the block ends."""
    arguments = ("--model-repository", str(repository), "--port", "0", "--metrics-port", "0")
    variables = {"FOMOFEED_SERVE_LAME_DUCK_S": "0", **settings}
    process = await asyncio.create_subprocess_exec(
        *(sys.executable, "-m", "cluster", "serve", *arguments),
        stderr=asyncio.subprocess.PIPE,
        env={"PATH": "/usr/bin:/bin", **variables},
    )
    served = Served(process)
    try:
        await served.wait_until_serving()
        yield served
    finally:
        if process.returncode is None:
            process.kill()
        await served.ended()
