"""Forgetting in PostgreSQL: deleted rows leave the files of the tables.

A deleted row stays in its page, and `VACUUM FULL` copies it as long as any transaction could still
see it. So the tables are written anew while no message is being stored: each one holds the table
`erasure` in a mode that shuts the eraser out, and waits for it without a snapshot of its own.
Transactions of other programs may still see the row; then the debt stays, as after a crash.

The write-ahead log, replicas and backups are the database's own: they forget in their own time.
"""

import logging

from services.profile.postgres.connecting import Connection, Connections
from services.profile.statements import (
    PAY_DEBT,
    READ_DEBT,
    TABLES_OF_USERS,
    for_postgres,
)
from serving.errors import NotReadyError

ENTER_AS_WRITER = "LOCK TABLE erasure IN ROW EXCLUSIVE MODE"  # the first thing in a transaction
_SHUT_WRITERS_OUT = "LOCK TABLE erasure IN SHARE MODE"
_NEXT_TRANSACTION = "SELECT pg_snapshot_xmax(pg_current_snapshot())::xid::text"
_OLDER_VIEWS = """
SELECT count(*) FROM (
    SELECT unnest(ARRAY[backend_xid, backend_xmin]) AS xid FROM pg_stat_activity
    WHERE pid <> pg_backend_pid() AND (datname = current_database() OR datname IS NULL)
    UNION ALL SELECT xmin FROM pg_replication_slots
    UNION ALL SELECT transaction FROM pg_prepared_xacts WHERE database = current_database()
) AS held WHERE xid IS NOT NULL AND age(xid) > age($1::text::xid)
"""
_log = logging.getLogger(__name__)


async def erase(connections: Connections) -> None:
    """Writes the tables anew where deleted rows may remain in them.

    Raises `NotReadyError` when another program's transaction kept them there.
    """
    async with connections.take() as connection:
        if not await connection.fetchval(READ_DEBT):
            return
    async with connections.make() as gate, connections.make() as worker:
        async with gate.transaction():
            await gate.execute(_SHUT_WRITERS_OUT)
            debt = await worker.fetchval(READ_DEBT)
            is_gone = await _rewrite(worker)
        if not is_gone:
            raise NotReadyError("erasing")
        await worker.execute(for_postgres(PAY_DEBT), debt)


async def erase_at_start(connections: Connections) -> None:
    """Pays what a deletion that was cut short still owes, if nobody is in the way."""
    try:
        await erase(connections)
    except NotReadyError as error:
        _log.warning("deleted users remain in files until the next deletion: %s", error)


async def _rewrite(worker: Connection) -> bool:
    next_transaction = await worker.fetchval(_NEXT_TRANSACTION)
    for table in TABLES_OF_USERS:
        await worker.execute(f"VACUUM (FULL, ANALYZE) {table}")
    return not await worker.fetchval(_OLDER_VIEWS, next_transaction)
