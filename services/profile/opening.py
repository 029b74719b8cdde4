"""Opens the store that the configuration names."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from datetime import UTC, datetime

from services.profile.config import ProfileConfig
from services.profile.profiles import ProfileStore
from services.profile.retention import Clock, retaining
from services.profile.sqlite.database import SqliteDatabase


@asynccontextmanager
async def open_store(
    config: ProfileConfig, clock: Clock = lambda: datetime.now(UTC)
) -> AsyncIterator[ProfileStore]:
    """Opens SQLite or PostgreSQL, as the database's name says. Raises `OSError`.

    `clock` tells the aware time from which the age of an event counts.
    """
    if not config.is_postgres:
        async with SqliteDatabase(config) as store, retaining(store, config.retention_days, clock):
            yield store
        return
    try:
        from services.profile.postgres.database import PostgresDatabase  # noqa: PLC0415  # optional
    except ModuleNotFoundError as error:
        raise OSError(f"{error.name} is not installed: pip install fomofeed[postgres]") from None
    async with (
        PostgresDatabase(config) as database,
        retaining(database, config.retention_days, clock),
    ):
        yield database
