"""Profiles in PostgreSQL: the tables and the meaning are those of the SQLite store.

Any number of servers may share one database. Each message is a transaction of its own, on one of a
bounded number of connections; a caller waits for a free one until its deadline.
"""

import asyncio
from collections.abc import AsyncIterator, Sequence
from contextlib import AsyncExitStack, asynccontextmanager
from types import TracebackType
from typing import Any, Self

import numpy as np

from services.profile import statements as sql
from services.profile.changes import changes_of
from services.profile.config import ProfileConfig
from services.profile.events import Message
from services.profile.postgres.connecting import Connection, Connections, connections
from services.profile.postgres.erasure import ENTER_AS_WRITER, erase, erase_at_start
from services.profile.postgres.schema import create
from services.profile.postgres.writing import store_message
from services.profile.profiles import Profile, Stored, profile_of
from services.profile.seed import demo_messages
from services.profile.statements import for_postgres

# One statement sees the user and the cells as of one moment.
_READ_PROFILES = (
    f"SELECT {sql.USER_COLUMNS},"
    + ",".join(
        f" ARRAY(SELECT {column} FROM cells WHERE cells.user_id = users.user_id"
        " ORDER BY hour_of_week)"
        for column in ("hour_of_week", "cells.posts", "cells.engagements")
    )
    + " FROM users WHERE user_id = ANY($1)"
)


class PostgresDatabase:
    """A `ProfileStore` in PostgreSQL; an async context manager."""

    def __init__(self, config: ProfileConfig) -> None:
        self._config = config
        self._stack = AsyncExitStack()
        self._connections: Connections

    async def __aenter__(self) -> Self:
        async with AsyncExitStack() as stack:
            self._connections = await stack.enter_async_context(connections(self._config))
            async with self._connections.make() as connection:
                await create(connection)
                is_empty = await connection.fetchval(sql.ANY_USER) is None
            await erase_at_start(self._connections)
            if self._config.seed_demo_users and is_empty:
                await self._store([*demo_messages()])
            self._stack = stack.pop_all()
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        await self._stack.aclose()

    async def profiles(self, user_ids: Sequence[int]) -> list[Profile | None]:
        """See `ProfileStore.profiles`."""
        async with self._connections.take() as connection:
            rows = await connection.fetch(_READ_PROFILES, list(user_ids))
        found = {row["user_id"]: _profile(row) for row in rows}
        return [found.get(user_id) for user_id in user_ids]

    async def ingest(self, message: Message) -> Stored:
        """See `ProfileStore.ingest`. A caller who leaves before the answer may have undone it."""
        (stored,) = await self._store([message])
        return stored

    async def delete(self, user_id: int) -> bool:
        """See `ProfileStore.delete`; of the files, it speaks of those of the tables."""
        async with self._transaction() as connection:
            tags = [await connection.execute(for_postgres(one), user_id) for one in sql.FORGET]
            was_known = any(map(_row_count, tags))
            if was_known:
                await connection.execute(sql.NOTE_DEBT)
        await erase(self._connections)
        return was_known

    async def drop_events(self, now_us: int, kept_us: int) -> int:
        """See `ProfileStore.drop_events`."""
        async with self._transaction() as connection:
            latest_us = await connection.fetchval(sql.LATEST_EVENT)
            if latest_us is None:
                return 0
            before_us = min(now_us, latest_us) - kept_us
            return _row_count(await connection.execute(for_postgres(sql.DROP_EVENTS), before_us))

    async def _store(self, messages: list[Message]) -> list[Stored]:
        changes = [await asyncio.to_thread(changes_of, message) for message in messages]
        async with self._transaction() as connection:
            pairs = zip(messages, changes, strict=True)
            return [await store_message(connection, *pair) for pair in pairs]

    @asynccontextmanager
    async def _transaction(self) -> AsyncIterator[Connection]:
        async with self._connections.take() as connection, connection.transaction():
            await connection.execute(ENTER_AS_WRITER)
            yield connection


def _profile(row: Any) -> Profile:
    *user, hours, posts, engagements = row
    return profile_of(user, np.array([hours, posts, engagements], np.float64).T)


def _row_count(tag: str) -> int:
    return int(tag.rpartition(" ")[2])  # "DELETE 3"
