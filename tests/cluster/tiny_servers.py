"""Real child processes for the supervisor's tests: they say what they do through a named pipe."""

import asyncio
import os
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from cluster.process import ServerPlan

# Says "up", then "down" when it is asked to end; the folder holds the pipe.
POLITE = """
import os, signal, sys
def say(word):
    with open(sys.argv[1], "w") as pipe:
        pipe.write(f"{sys.argv[2]} {word} {os.getpid()}\\n")
def end(*_):
    say("down")
    sys.exit(0)
signal.signal(signal.SIGTERM, end)
say("up")
while True:
    signal.pause()
"""

# As above, but does not listen when it is asked to end.
STUBBORN = POLITE.replace(
    "signal.signal(signal.SIGTERM, end)", "signal.signal(signal.SIGTERM, signal.SIG_IGN)"
)

# Ends at once, with its reason in the log.
BROKEN = "import sys; sys.exit('the model is missing')"


@contextmanager
def sleeping_child(python: str | Path = sys.executable) -> Iterator[subprocess.Popen[bytes]]:
    """A child that has begun and waits to be signalled; killed at the end of the block."""
    source = "import signal; print('begun', flush=True); signal.pause()"
    with subprocess.Popen([python, "-c", source], stdout=subprocess.PIPE) as child:
        try:
            assert child.stdout is not None
            child.stdout.readline()
            yield child
        finally:
            child.kill()


class Words:
    """What the children said, in the order in which they said it: `("clip", "up", 4711)`."""

    def __init__(self, folder: Path) -> None:
        self.path = folder / "words"
        os.mkfifo(self.path)
        # Opened for writing too, so that it does not end when the last child closes it.
        self._reader = os.fdopen(os.open(self.path, os.O_RDWR))

    async def next(self) -> tuple[str, str, int]:
        """Waits for the next word, however long it takes; the test's own limit ends it."""
        name, word, pid = (await asyncio.to_thread(self._reader.readline)).split()
        return name, word, int(pid)

    async def of_all(self, word: str, count: int) -> dict[str, int]:
        """Waits for `count` words `word`; the pids by name."""
        said = [await self.next() for _ in range(count)]
        assert all(spoken == word for _, spoken, _ in said), said
        return {name: pid for name, _, pid in said}

    def close(self) -> None:
        self._reader.close()


def plan(name: str, source: str, words: Words, folder: Path) -> ServerPlan:
    """How a child that runs `source` is started."""
    return ServerPlan(
        name=name,
        command=(sys.executable, "-c", source, str(words.path), name),
        target=name,
        log=folder / f"{name}.log",
        folder=folder,
        environment={},
    )
