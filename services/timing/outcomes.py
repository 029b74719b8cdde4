"""Outcomes that callers recorded: few, small, kept in SQLite beside the server.

They are for callers who keep no events in the profile service; a post counted there is not counted
here as well. Reads and writes run on one thread of their own.
"""

import asyncio
import logging
import sqlite3
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from dataclasses import astuple, dataclass
from pathlib import Path
from types import TracebackType
from typing import Self, TypeVar, TypeVarTuple

from services.timing.outcome_schema import create, outcome_digest
from serving.errors import InvalidRequestError, NotReadyError, Violation
from serving.migrations import request_key
from serving.sqlite import rewrite, transaction, translated

Arguments = TypeVarTuple("Arguments")
Result = TypeVar("Result")
_log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class Outcome:
    user_id: int
    post_us: int  # microseconds since 1970
    engagements: float


class OutcomeStore:
    """Recorded outcomes; an async context manager, used from one event loop.

    Raises `NotReadyError` while the disk is full or another process holds the database.
    """

    def __init__(self, database: Path) -> None:
        self._database = database
        self._stack = ExitStack()
        self._connection: sqlite3.Connection

    async def __aenter__(self) -> Self:
        self._loop = asyncio.get_running_loop()
        with ExitStack() as stack:
            self._thread = stack.enter_context(ThreadPoolExecutor(1, "timing-outcomes"))
            self._connection = await self._on_thread(self._open)
            self._stack = stack.pop_all()
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._stack.close()
        self._connection.close()

    async def record(self, request_id: str, outcome: Outcome) -> bool:
        """Stores an outcome; says whether it was new.

        Raises `InvalidRequestError` when `request_id` was used for another outcome.
        """
        return await self._on_thread(self._record, request_id, outcome)

    async def of_user(self, user_id: int) -> list[Outcome]:
        """Returns what was recorded for a user, in no particular order."""
        return await self._on_thread(self._read, user_id)

    async def delete(self, user_id: int) -> int:
        """Deletes a user's outcomes from table and files; returns how many there were.

        Raises `NotReadyError` when they are gone but not the bytes; calling again goes on.
        """
        return await self._on_thread(self._delete, user_id)

    async def _on_thread(
        self, function: Callable[[*Arguments], Result], *arguments: *Arguments
    ) -> Result:
        return await self._loop.run_in_executor(self._thread, function, *arguments)

    def _open(self) -> sqlite3.Connection:
        self._database.parent.mkdir(parents=True, exist_ok=True)
        connection = sqlite3.connect(self._database, isolation_level=None, check_same_thread=False)
        connection.execute("PRAGMA journal_mode = WAL")
        with transaction(connection):
            create(connection)
        try:
            _erase(connection)
        except NotReadyError as error:
            _log.warning("deleted outcomes remain in files until the next deletion: %s", error)
        return connection

    def _record(self, request_id: str, outcome: Outcome) -> bool:
        key, digest = request_key(request_id), outcome_digest(*astuple(outcome))
        with transaction(self._connection):
            claim = "INSERT OR IGNORE INTO requests VALUES (?, ?)"
            if self._connection.execute(claim, (key, digest)).rowcount:
                self._connection.execute("INSERT INTO outcomes VALUES (?, ?, ?)", astuple(outcome))
                return True
            known = "SELECT digest FROM requests WHERE request_key = ?"
            if self._connection.execute(known, (key,)).fetchone() != (digest,):
                limit = "once for one outcome; it was used for another"
                raise InvalidRequestError(Violation("request_id", repr(request_id), limit))
            return False

    def _read(self, user_id: int) -> list[Outcome]:
        with translated():
            rows = self._connection.execute(
                "SELECT user_id, post_us, engagements FROM outcomes WHERE user_id = ?", (user_id,)
            ).fetchall()
        return [Outcome(*row) for row in rows]

    def _delete(self, user_id: int) -> int:
        with transaction(self._connection):
            count = self._connection.execute(
                "DELETE FROM outcomes WHERE user_id = ?", (user_id,)
            ).rowcount
            if count:
                self._connection.execute("UPDATE erasure SET is_due = 1")
        _erase(self._connection)
        return count


def _erase(connection: sqlite3.Connection) -> None:
    with translated():
        if connection.execute("SELECT is_due FROM erasure").fetchone() == (0,):
            return
        rewrite(connection)
        connection.execute("UPDATE erasure SET is_due = 0")
