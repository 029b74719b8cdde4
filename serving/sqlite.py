"""What the SQLite stores of all services need: transactions, faults in our words, real erasure.

A deleted row stays in free pages, in the unused part of others and in the write-ahead log until
something overwrites it. Only a file written anew and a log cut to nothing hold none.
"""

import logging
import sqlite3
from collections.abc import Iterator
from contextlib import contextmanager

from serving.errors import NotReadyError

_log = logging.getLogger(__name__)


@contextmanager
def transaction(connection: sqlite3.Connection, begin: str = "BEGIN IMMEDIATE") -> Iterator[None]:
    """Commits what the block did, or nothing of it; for connections in autocommit mode.

    Raises `NotReadyError` when the disk is full or another process holds the database.
    """
    with translated():
        connection.execute(begin)
        try:
            yield
            connection.execute("COMMIT")
        except BaseException:
            if connection.in_transaction:  # a full disk has ended it already
                connection.execute("ROLLBACK")
            raise


@contextmanager
def translated() -> Iterator[None]:
    """Turns faults of the disk and locks held elsewhere into `NotReadyError`."""
    try:
        yield
    except sqlite3.OperationalError as error:
        _log.exception("an SQLite database failed")
        raise NotReadyError("without its database") from error


def rewrite(connection: sqlite3.Connection) -> None:
    """Writes the files anew without deleted rows; outside of a transaction.

    Takes about a second for each million rows. Raises `NotReadyError` when readers kept the
    write-ahead log from being cut.
    """
    with translated():
        connection.execute("VACUUM")
        is_busy, _, _ = connection.execute("PRAGMA wal_checkpoint(TRUNCATE)").fetchone()
    if is_busy:
        raise NotReadyError("erasing", retry_after_s=1.0)
