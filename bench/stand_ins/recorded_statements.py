"""What the store asks of SQLite, recorded, so that SQLite can be asked it without the store."""

import sqlite3
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

from services.profile.events import Message
from services.profile.sqlite.store import Store

Asked = tuple[str, Sequence[Any], bool]  # statement, parameters, whether of many rows


class Recorder:
    """Stands before a connection and remembers what it is asked."""

    def __init__(self, connection: sqlite3.Connection) -> None:
        self._connection = connection
        self.asked: list[Asked] = []

    @property
    def in_transaction(self) -> bool:
        return self._connection.in_transaction

    def execute(self, statement: str, parameters: Sequence[Any] = ()) -> sqlite3.Cursor:
        self.asked.append((statement, parameters, False))
        return self._connection.execute(statement, parameters)

    def executemany(self, statement: str, rows: Sequence[Sequence[Any]]) -> sqlite3.Cursor:
        self.asked.append((statement, rows, True))
        return self._connection.executemany(statement, rows)

    def close(self) -> None:
        self._connection.close()


def record(path: Path, messages: Iterable[Message]) -> list[Asked]:
    """Ingests messages into a new database, a transaction each; returns what was asked for it."""
    store = Store(path, is_synced=False)
    recorder = Recorder(store._connection)
    store._connection = recorder  # type: ignore[assignment]  # has what the store calls
    for message in messages:
        store.ingest([message])
    store.close()
    return recorder.asked


def replay(connection: sqlite3.Connection, asked: Iterable[Asked]) -> None:
    """Asks the same of another connection."""
    for statement, parameters, is_many in asked:
        if is_many:
            connection.executemany(statement, parameters)
        else:
            connection.execute(statement, parameters).fetchall()
