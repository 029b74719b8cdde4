"""The profile server, forked from a process that has imported everything: started in 0.1 s.

Run as a process of its own, `python -m bench.stand_ins.profile_forks` reads environments, one a
line as JSON, and becomes a server with each in turn: it forks, and waits until the child is gone.
"""

import asyncio
import json
import os
import re
import signal
import sys
from asyncio.subprocess import PIPE, Process
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from typing import Self

from services.profile import opening  # noqa: F401  # imported once for all that are forked
from services.profile.__main__ import run
from serving.rpc.server import run_main


class Forks:
    """Starts and kills servers, one at a time."""

    def __init__(self, process: Process) -> None:
        self._process = process
        self._pid = 0

    @classmethod
    @asynccontextmanager
    async def ready(cls) -> AsyncIterator[Self]:
        """Runs the process that forks them; kills the one that is left."""
        command = (sys.executable, "-m", "bench.stand_ins.profile_forks")
        process = await asyncio.create_subprocess_exec(*command, stdin=PIPE, stdout=PIPE)
        forks = cls(process)
        try:
            yield forks
        finally:
            await forks.kill()
            assert process.stdin
            process.stdin.close()
            await process.wait()

    async def start(self, environment: Mapping[str, str]) -> str:
        """Starts a server; returns its address as soon as it listens."""
        assert self._process.stdin
        self._process.stdin.write(json.dumps(dict(environment)).encode() + b"\n")
        self._pid = int((await self._line(r"^forked (\d+)"))[1])
        return (await self._line(r"listening on (\S+)"))[1]

    async def kill(self) -> None:
        """Ends the server by SIGKILL; returns when it is gone."""
        if self._pid:
            os.kill(self._pid, signal.SIGKILL)
            await self._line("^gone")
            self._pid = 0

    async def _line(self, pattern: str) -> re.Match[str]:
        assert self._process.stdout
        async for line in self._process.stdout:
            if found := re.search(pattern, line.decode()):
                return found
        raise RuntimeError(f"the process that forks servers ended before it said {pattern}")


def main() -> None:
    for line in sys.stdin:
        child = os.fork()
        if not child:
            print(f"forked {os.getpid()}", flush=True)  # before anything that it may log
            os.dup2(1, 2)
            os.environ.update(json.loads(line))
            os._exit(run_main(run))
        os.waitpid(child, 0)
        print("\ngone", flush=True)  # it may have been killed in the middle of a line


if __name__ == "__main__":
    main()
