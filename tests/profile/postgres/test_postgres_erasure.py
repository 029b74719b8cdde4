"""Deletion in PostgreSQL: what is gone from the files of the tables."""

import asyncio
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from bench.stand_ins.real_postgres import RealPostgres
from services.profile.config import ProfileConfig
from services.profile.opening import open_store
from services.profile.profiles import ProfileStore
from services.profile.statements import TABLES_OF_USERS
from serving.errors import NotReadyError
from tests.profile.profile_events import action, facts, message, post

asyncpg = pytest.importorskip("asyncpg")
pytestmark = pytest.mark.extras
USER = 0x5A17_3C9B_E24D  # of a pattern of bytes that nothing else has
POST = 0x6B5E_91D7_42F3
NAME = "Zsófia Quux-Wyvern"
NEEDLES = (
    NAME.encode(),
    b"zsofia-phone",
    USER.to_bytes(8, "little"),
    POST.to_bytes(8, "little"),
)


@pytest.fixture
def url(real_postgres: RealPostgres) -> str:
    return real_postgres.new_database()


@pytest.fixture
async def store(url: str) -> AsyncIterator[ProfileStore]:
    """A store with the user among many others, in statistics too."""
    async with open_store(ProfileConfig(url, seed_demo_users=False)) as opened:
        for number in range(20):
            mine = [post(USER, POST), post(USER, POST + number), action(USER, POST, weight=2.0)]
            named = facts(USER, "Europe/Budapest")
            named.user.user_name = NAME
            others = [post(1 + number + k, number + 1) for k in range(60)]
            await opened.ingest(message(f"zsofia-phone-{number}", named, *mine, *others))
        await run(url, "ANALYZE")
        yield opened


async def run(url: str, *statements: str) -> None:
    connection = await asyncpg.connect(url)
    try:
        for statement in statements:
            await connection.execute(statement)
    finally:
        await connection.close()


async def traces(url: str, server: RealPostgres) -> set[bytes]:
    """Returns what of the user is in any file of the database; not in the write-ahead log."""
    await run(url, "CHECKPOINT")  # what is in memory goes to the files, and dropped files go
    connection = await asyncpg.connect(url)
    try:
        folder = await connection.fetchval(
            "SELECT oid FROM pg_database WHERE datname = current_database()"
        )
    finally:
        await connection.close()
    contents = contents_of(server.folder / "base" / str(folder))
    return {needle for needle in NEEDLES if any(needle in content for content in contents)}


def contents_of(folder: Path) -> list[bytes]:
    return [path.read_bytes() for path in folder.iterdir()]


async def test_no_byte_of_a_deleted_user_is_left_in_any_file_of_the_database(
    store: ProfileStore, url: str, real_postgres: RealPostgres
) -> None:
    assert await traces(url, real_postgres) == set(NEEDLES) - {b"zsofia-phone"}
    assert await store.delete(USER)
    assert await traces(url, real_postgres) == set()
    others = await store.profiles(range(1, 80))
    assert sum(profile.post_count for profile in others if profile) == 20 * 60


async def test_what_another_program_could_still_see_is_erased_at_the_next_call(
    store: ProfileStore, url: str, real_postgres: RealPostgres
) -> None:
    other = await asyncpg.connect(url)
    try:
        async with other.transaction(isolation="repeatable_read"):
            await other.fetchval("SELECT 1")  # from now on it sees the database as it is
            with pytest.raises(NotReadyError, match="erasing"):
                await store.delete(USER)
            assert await store.profiles([USER]) == [None]
            assert await traces(url, real_postgres)
    finally:
        await other.close()
    assert not await store.delete(USER)
    assert await traces(url, real_postgres) == set()


async def test_a_deletion_that_a_crash_cut_short_is_finished_at_the_start(
    store: ProfileStore, url: str, real_postgres: RealPostgres
) -> None:
    rows = [f"DELETE FROM {table} WHERE user_id = {USER}" for table in TABLES_OF_USERS]
    await run(url, *rows, "UPDATE erasure SET is_due = is_due + 1")
    assert await traces(url, real_postgres)
    async with open_store(ProfileConfig(url, seed_demo_users=False)):
        assert await traces(url, real_postgres) == set()


async def test_streams_go_on_after_a_deletion_that_came_between_them(store: ProfileStore) -> None:
    async with asyncio.TaskGroup() as group:
        for number in range(30):
            group.create_task(store.ingest(message(f"between-{number}", post(200 + number, 1))))
            if number % 10 == 5:
                group.create_task(store.delete(1 + number))
    found = await store.profiles(range(200, 230))
    assert [profile.post_count for profile in found if profile] == [1] * 30
