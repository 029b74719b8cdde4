"""Connections to PostgreSQL: a bounded pool, the caller's deadline, and faults in our own words.

A connection that is lost fails the calls that use it, with `UNAVAILABLE`; the pool makes a new one
for the next. Nothing is repeated here: a caller who repeats a message is counted once.
"""

import asyncio
import logging
import math
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, contextmanager
from typing import Any, TypeAlias

import asyncpg

from services.profile.config import ProfileConfig
from serving import request
from serving.errors import DeadlineError, NotReadyError
from serving.migrations import SchemaError

Connection: TypeAlias = Any  # asyncpg's own, or the pool's proxy of one
CONNECT_S = 5.0  # to open a connection, or to close all
_FAULTS = (
    asyncpg.PostgresConnectionError,
    asyncpg.OperatorInterventionError,  # it shuts down, crashed, starts, ended the statement
    asyncpg.InsufficientResourcesError,  # disk full, too many connections
    asyncpg.TransactionRollbackError,  # a deadlock
    asyncpg.ReadOnlySQLTransactionError,  # a standby that will soon be the primary
    asyncpg.InterfaceError,  # the connection is closed
    asyncpg.InternalClientError,  # the answer broke off
    OSError,
)
_log = logging.getLogger(__name__)


class Connections:
    """Lends connections, `connection_count` at most; used from one event loop."""

    def __init__(self, config: ProfileConfig, pool: Any) -> None:
        self._config = config
        self._pool = pool

    @asynccontextmanager
    async def take(self) -> AsyncIterator[Connection]:
        """Lends one until the caller's deadline, which also ends the statement that runs then.

        Raises `DeadlineError` at the deadline, and `NotReadyError` when the database fails, or
        does not answer a caller without a deadline within `max_statement_s`.
        """
        left_s = request.current().left_s()
        timeout_s = min(left_s, self._config.max_statement_s)
        try:
            async with asyncio.timeout(timeout_s):
                with translated():
                    async with self._pool.acquire(timeout=timeout_s) as connection:
                        yield connection
        except TimeoutError as error:
            if left_s <= self._config.max_statement_s:
                raise DeadlineError("EXPIRED", "deadline passed in the database") from error
            raise NotReadyError("waiting for its database") from error

    @asynccontextmanager
    async def make(self) -> AsyncIterator[Connection]:
        """Makes one of its own, beyond the pool, for as long as the caller has."""
        left_s = request.current().left_s()
        try:
            async with asyncio.timeout(None if left_s == math.inf else left_s):
                with translated():
                    connection = await asyncpg.connect(self._config.database, timeout=CONNECT_S)
                    try:
                        yield connection
                    finally:
                        connection.terminate()
        except TimeoutError as error:
            raise DeadlineError("EXPIRED", "deadline passed in the database") from error


@asynccontextmanager
async def connections(config: ProfileConfig) -> AsyncIterator[Connections]:
    """Opens the pool. Raises `OSError` where there is no such database."""
    pool = await _opened(config)
    try:
        yield Connections(config, pool)
    finally:
        try:
            await asyncio.wait_for(pool.close(), CONNECT_S)
        except (TimeoutError, *_FAULTS):
            pool.terminate()


@contextmanager
def translated() -> Iterator[None]:
    """Turns faults of the database or of the way to it into `NotReadyError`."""
    try:
        yield
    except (TimeoutError, SchemaError):  # `OSError`s, but not of the database
        raise
    except _FAULTS as error:
        if isinstance(error, ValueError):
            raise  # our own mistakes
        _log.warning("the profile database failed: %s: %s", type(error).__name__, error)
        raise NotReadyError("without its database") from error


async def _opened(config: ProfileConfig) -> Any:
    try:
        return await asyncpg.create_pool(
            config.database,
            min_size=1,
            max_size=config.connection_count,
            timeout=CONNECT_S,
            server_settings={
                "application_name": "fomofeed-profile",
                "synchronous_commit": "on" if config.is_synced else "off",
            },
        )
    except (asyncpg.PostgresError, asyncpg.InterfaceError, OSError, ValueError) as error:
        reason = str(error) or type(error).__name__  # asyncpg's never hold the password
        raise OSError(f"profile database cannot be opened: {reason}") from error
