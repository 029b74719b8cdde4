"""`fomofeed up --detach`: a supervisor in the background that tells its starter how it goes.

The supervisor writes what happens as lines of JSON into a pipe until all servers serve; the
starter prints them and goes. Should the supervisor end before, the pipe ends with it.
"""

import json
import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Protocol, TextIO

from cluster.errors import CommandError

SUPERVISOR_LOG = "supervisor.log"


class Announcer(Protocol):
    """Hears what happens to the servers."""

    def say(self, server: str, text: str) -> None: ...

    def ready(self) -> None:
        """All servers serve, for the first time."""
        ...


class PipeAnnouncer:
    """Writes to the starter while it listens, and to the log (standard output) always."""

    def __init__(self, descriptor: int) -> None:
        self._pipe: TextIO | None = os.fdopen(descriptor, "w", buffering=1)

    def say(self, server: str, text: str) -> None:
        print(f"{server}: {text}", flush=True)
        self._send({"server": server, "text": text})

    def ready(self) -> None:
        self._send({"ready": True})
        self.close()

    def fail(self, text: str) -> None:
        """Tells why the start failed."""
        print(text, flush=True)
        self._send({"failed": text})

    def close(self) -> None:
        if self._pipe is not None:
            self._pipe.close()
            self._pipe = None

    def _send(self, message: dict[str, object]) -> None:
        if self._pipe is None:
            return
        try:
            self._pipe.write(json.dumps(message) + "\n")
        except BrokenPipeError:  # the starter was interrupted; the cluster goes on
            self._pipe = None


def start_detached(arguments: list[str], folder: Path, announcer: Announcer) -> None:
    """Starts the supervisor and returns once all servers serve. Raises `CommandError`."""
    folder.mkdir(parents=True, exist_ok=True)
    reading, writing = os.pipe()
    with (folder / SUPERVISOR_LOG).open("ab") as log:
        command = [sys.executable, "-m", "cluster", "up", *arguments, "--report-to", str(writing)]
        process = subprocess.Popen(
            command,
            stdin=subprocess.DEVNULL,
            stdout=log,
            stderr=log,
            pass_fds=(writing,),
            start_new_session=True,
        )
    os.close(writing)
    try:
        _follow(_messages(reading), announcer)
    except KeyboardInterrupt:
        process.terminate()
        process.wait()
        raise
    except CommandError:
        process.wait()
        raise
    process.returncode = 0  # it lives on: keeps Popen from warning about it


def _messages(descriptor: int) -> Iterator[dict[str, str]]:
    with os.fdopen(descriptor) as pipe:
        for line in pipe:
            yield json.loads(line)


def _follow(messages: Iterator[dict[str, str]], announcer: Announcer) -> None:
    for message in messages:
        if "failed" in message:
            raise CommandError(message["failed"])
        if "ready" in message:
            announcer.ready()
            return
        announcer.say(message["server"], message["text"])
    raise CommandError("the supervisor ended before the servers served")
