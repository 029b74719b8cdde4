"""Forgetting: users whole and from the files themselves.

The rows go first, in one transaction that also notes the debt, and then the file is written anew
without them. A crash in between leaves the debt noted, and opening the database pays it.
"""

import sqlite3

from services.profile.statements import FORGET, NOTE_DEBT, PAY_DEBT, READ_DEBT
from serving.sqlite import rewrite


def delete_rows(connection: sqlite3.Connection, user_id: int) -> bool:
    """Deletes a user's rows in the caller's transaction; says whether the user was there."""
    counts = [connection.execute(statement, (user_id,)).rowcount for statement in FORGET]
    if any(counts):
        connection.execute(NOTE_DEBT)
    return any(counts)


def erase(connection: sqlite3.Connection) -> None:
    """Rewrites the files where deleted rows may remain in them; outside of a transaction.

    Raises `NotReadyError` when readers kept the write-ahead log from being cut.
    """
    (debt,) = connection.execute(READ_DEBT).fetchone()
    if debt:
        rewrite(connection)
        connection.execute(PAY_DEBT, (debt,))
