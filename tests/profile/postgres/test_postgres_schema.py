"""Older databases are brought up to date, newer ones refused."""

import asyncio
from typing import Any

import pytest

from bench.stand_ins.real_postgres import RealPostgres
from services.profile.config import ProfileConfig
from services.profile.opening import open_store
from serving.migrations import SchemaError
from tests.profile.profile_events import message, post, read

asyncpg = pytest.importorskip("asyncpg")
from services.profile.postgres.schema import STEPS  # noqa: E402  # needs asyncpg

pytestmark = pytest.mark.extras


@pytest.fixture
def url(real_postgres: RealPostgres) -> str:
    return real_postgres.new_database()


async def run(url: str, *statements: str) -> Any:
    """Runs statements beside the store; returns what the last one gives."""
    connection = await asyncpg.connect(url)
    try:
        return [await connection.fetchval(statement) for statement in statements][-1]
    finally:
        await connection.close()


async def test_an_older_database_is_brought_up_to_date_and_keeps_everything(url: str) -> None:
    await run(
        url,
        *(statement for statement in STEPS[0].split(";") if statement.strip()),
        "UPDATE schema_version SET version = 1",
        "INSERT INTO users VALUES (1, 'Ada', 'Asia/Tokyo', 10, 5, 7, 1, 8.0, 2.0)",
        "INSERT INTO cells VALUES (1, 21, 1.0, 2.0)",
        "INSERT INTO posts VALUES (1, 5, 1777896000000000, 2.0)",
    )
    async with open_store(ProfileConfig(url, seed_demo_users=False)) as store:
        profile = await read(store, 1)
        assert (profile.user_name, profile.avg_engagement, profile.posts[21]) == ("Ada", 0.25, 1)
        assert (await store.ingest(message("a", post(1, 5)))).duplicate_count == 1
    assert await run(url, "SELECT version FROM schema_version") == len(STEPS)


async def test_nobody_is_among_the_statistics_of_the_planner(url: str) -> None:
    async with open_store(ProfileConfig(url, seed_demo_users=False)) as store:
        await store.ingest(message("a", post(1, 5), post(2, 5)))
        kept = "SELECT count(*) FROM pg_stats WHERE schemaname = 'public' AND attname IN "
        assert await run(url, "ANALYZE", kept + "('user_id', 'user_name', 'post_id')") == 0
        assert await run(url, kept + "('follower_count')") == 1


async def test_a_database_of_a_newer_program_is_refused_in_words(url: str) -> None:
    config = ProfileConfig(url, seed_demo_users=False)
    async with open_store(config):
        pass
    await run(url, "UPDATE schema_version SET version = 99")
    with pytest.raises(SchemaError, match="schema 99, this program knows up to 2: start the newer"):
        async with open_store(config):
            pass


async def test_servers_that_start_together_make_the_tables_once(url: str) -> None:
    async def start() -> int:
        async with open_store(ProfileConfig(url)) as store:
            return (await read(store, 12)).post_count

    assert await asyncio.gather(start(), start(), start()) == [240] * 3
