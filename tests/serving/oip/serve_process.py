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
    """The running process; `target` is its address, `exit_code` known after `stop`."""

    def __init__(self, process: asyncio.subprocess.Process) -> None:
        self.process, self.target = process, ""

    async def wait_until_serving(self) -> None:
        assert self.process.stderr
        log = b""
        async for line in self.process.stderr:
            log += line
            if found := _LISTENING.search(line):
                self.target = found[1].decode()
            if _SERVING in line:
                return
        raise AssertionError(f"it did not start: {log.decode()}")

    async def stop(self) -> int:
        """Sends SIGTERM and returns the exit code."""
        self.process.send_signal(signal.SIGTERM)
        await self.process.communicate()
        assert self.process.returncode is not None
        return self.process.returncode


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
            await process.communicate()
