"""PostgreSQL's own process dies under a server of ours that goes on."""

import asyncio
import os
import random
import signal
from collections.abc import Awaitable, Callable
from typing import TypeVar

import pytest

from bench.profile_crash import counted, numbered
from bench.stand_ins.real_postgres import RealPostgres
from services.profile.config import ProfileConfig
from services.profile.events import read_message
from services.profile.opening import open_store
from services.profile.profiles import ProfileStore
from serving.errors import NotReadyError
from tests.profile.profile_events import read

asyncpg = pytest.importorskip("asyncpg")
from services.profile.postgres.connecting import translated  # noqa: E402  # needs asyncpg

pytestmark = pytest.mark.extras
USERS = (1, 2, 3)  # each with a stream of its own
Answer = TypeVar("Answer")


async def again_until_ready(call: Callable[[], Awaitable[Answer]]) -> Answer:
    """Repeats a call, as a client does, while the database cannot be reached, 60 s at most."""
    async with asyncio.timeout(60):
        while True:
            try:
                return await call()
            except NotReadyError:
                continue  # it takes as long as an attempt to connect


async def kill_a_backend(url: str) -> None:
    """Kills a process that serves the store; PostgreSQL then ends all others and recovers."""
    for pid in (await again_until_ready(lambda: serving_backends(url)))[:1]:
        os.kill(pid, signal.SIGKILL)


async def serving_backends(url: str) -> list[int]:
    with translated():
        connection = await asyncpg.connect(url)
        try:
            rows = await connection.fetch(
                "SELECT pid FROM pg_stat_activity WHERE application_name = 'fomofeed-profile'"
                " AND datname = current_database() ORDER BY random()"
            )
        finally:
            connection.terminate()
    return [row["pid"] for row in rows]


async def stream(store: ProfileStore, user_id: int, kills: "Kills") -> int:
    """Ingests until the last kill; returns how many messages were acknowledged."""
    number = 0
    while not kills.are_over:
        message = read_message(numbered(number, user_id))
        await again_until_ready(lambda message=message: store.ingest(message))
        number += 1
        kills.acknowledged.put_nowait(number)
    return number


class Kills:
    def __init__(self, url: str, count: int) -> None:
        self.acknowledged: asyncio.Queue[int] = asyncio.Queue()
        self.are_over = False
        self._url, self._count = url, count

    async def run(self) -> None:
        """Kills after every few acknowledgements."""
        chance = random.Random(self._count)
        for _ in range(self._count):
            for _ in range(chance.randint(1, 20)):
                await self.acknowledged.get()
            await kill_a_backend(self._url)
        self.are_over = True


async def ingest_under_fire(url: str, count: int) -> None:
    config = ProfileConfig(url, seed_demo_users=False, connection_count=len(USERS))
    kills = Kills(url, count)
    async with open_store(config) as store:
        calls = [stream(store, user_id, kills) for user_id in USERS]
        *counts, _ = await asyncio.gather(*calls, kills.run())
        for user_id, acknowledged in zip(USERS, counts, strict=True):
            profile = await again_until_ready(lambda user_id=user_id: read(store, user_id))
            assert profile.post_count == 2 * acknowledged
            assert profile.posts.sum() == profile.engagements.sum() == 2 * acknowledged
    assert await counted(url, "SELECT COUNT(*) FROM requests") == sum(counts)
    assert await counted(url, "SELECT COUNT(*) FROM events") == 4 * sum(counts)


async def test_a_killed_backend_loses_nothing_and_counts_nothing_twice(
    real_postgres: RealPostgres,
) -> None:
    await ingest_under_fire(real_postgres.new_database(), count=2)


@pytest.mark.prove
async def test_200_killed_backends_lose_nothing_and_count_nothing_twice(
    real_postgres: RealPostgres,
) -> None:
    await ingest_under_fire(real_postgres.new_database(), count=200)
