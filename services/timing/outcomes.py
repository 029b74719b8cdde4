"""Outcomes that callers recorded: few, small, kept in SQLite beside the server.

They are for callers who keep no events in the profile service; a post counted there is not counted
here as well. Reads and writes run on one thread of their own.
"""

import asyncio
import sqlite3
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import Self

from serving.errors import InvalidRequestError, Violation

_TABLES = """
CREATE TABLE IF NOT EXISTS outcomes (
    request_id TEXT PRIMARY KEY,
    user_id INTEGER NOT NULL,
    post_us INTEGER NOT NULL,
    engagements REAL NOT NULL
) WITHOUT ROWID;
CREATE INDEX IF NOT EXISTS outcomes_of_user ON outcomes (user_id);
"""


@dataclass(frozen=True, slots=True)
class Outcome:
    user_id: int
    post_us: int  # microseconds since 1970
    engagements: float


class OutcomeStore:
    """Recorded outcomes; an async context manager, used from one event loop."""

    def __init__(self, database: Path) -> None:
        self._database = database
        self._stack = ExitStack()
        self._connection: sqlite3.Connection

    async def __aenter__(self) -> Self:
        self._loop = asyncio.get_running_loop()
        self._thread = self._stack.enter_context(ThreadPoolExecutor(1, "timing-outcomes"))
        self._connection = await self._loop.run_in_executor(self._thread, self._open)
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
        return await self._loop.run_in_executor(self._thread, self._record, request_id, outcome)

    async def of_user(self, user_id: int) -> list[Outcome]:
        """Returns what was recorded for a user, in no particular order."""
        return await self._loop.run_in_executor(self._thread, self._read, user_id)

    def _open(self) -> sqlite3.Connection:
        self._database.parent.mkdir(parents=True, exist_ok=True)
        connection = sqlite3.connect(self._database, isolation_level=None, check_same_thread=False)
        connection.execute("PRAGMA journal_mode = WAL")
        connection.executescript(_TABLES)
        return connection

    def _record(self, request_id: str, outcome: Outcome) -> bool:
        values = (outcome.user_id, outcome.post_us, outcome.engagements)
        cursor = self._connection.execute(
            "INSERT OR IGNORE INTO outcomes VALUES (?, ?, ?, ?)", (request_id, *values)
        )
        if cursor.rowcount:
            return True
        known = self._connection.execute(
            "SELECT user_id, post_us, engagements FROM outcomes WHERE request_id = ?", (request_id,)
        ).fetchone()
        if known != values:
            limit = "once for one outcome; it was used for another"
            raise InvalidRequestError(Violation("request_id", repr(request_id), limit))
        return False

    def _read(self, user_id: int) -> list[Outcome]:
        rows = self._connection.execute(
            "SELECT user_id, post_us, engagements FROM outcomes WHERE user_id = ?", (user_id,)
        )
        return [Outcome(*row) for row in rows]
