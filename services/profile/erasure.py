"""Forgetting: users whole and from the files themselves, old events from the log alone.

A deleted row stays in free pages, in the unused part of others and in the write-ahead log until
something overwrites it. So the rows go first, in one transaction that also notes the debt, and
then the file is written anew without them and the log cut to nothing. A crash in between leaves
the debt noted, and opening the database pays it.
"""

import sqlite3

from serving.errors import NotReadyError

_TABLES = ("users", "cells", "posts", "events")


def delete_rows(connection: sqlite3.Connection, user_id: int) -> bool:
    """Deletes a user's rows in the caller's transaction; says whether the user was there."""
    counts = [
        connection.execute(f"DELETE FROM {table} WHERE user_id = ?", (user_id,)).rowcount
        for table in _TABLES
    ]
    if any(counts):
        connection.execute("UPDATE erasure SET is_due = 1")
    return any(counts)


def erase(connection: sqlite3.Connection) -> None:
    """Rewrites the files where deleted rows may remain in them; outside of a transaction.

    Raises `NotReadyError` when readers kept the write-ahead log from being cut.
    """
    if not connection.execute("SELECT is_due FROM erasure").fetchone()[0]:
        return
    connection.execute("VACUUM")
    _cut_log(connection)
    connection.execute("UPDATE erasure SET is_due = 0")


def drop_events(connection: sqlite3.Connection, before_us: int) -> int:
    """Drops events from the log that happened earlier; returns how many.

    Profiles stay as they are: they count what happened, and need the log for nothing.
    """
    return connection.execute("DELETE FROM events WHERE event_us < ?", (before_us,)).rowcount


def _cut_log(connection: sqlite3.Connection) -> None:
    is_busy, _, _ = connection.execute("PRAGMA wal_checkpoint(TRUNCATE)").fetchone()
    if is_busy:
        raise NotReadyError("erasing", retry_after_s=1.0)
