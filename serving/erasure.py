"""Takes deleted rows out of the files of an SQLite database.

A deleted row stays in free pages, in the unused part of others and in the write-ahead log until
something overwrites it. Only a file written anew and a log cut to nothing hold none.
"""

import sqlite3

from serving.errors import NotReadyError


def rewrite(connection: sqlite3.Connection) -> None:
    """Writes the files anew without deleted rows; outside of a transaction.

    Takes about a second for each million rows. Raises `NotReadyError` when readers kept the
    write-ahead log from being cut.
    """
    connection.execute("VACUUM")
    is_busy, _, _ = connection.execute("PRAGMA wal_checkpoint(TRUNCATE)").fetchone()
    if is_busy:
        raise NotReadyError("erasing", retry_after_s=1.0)
