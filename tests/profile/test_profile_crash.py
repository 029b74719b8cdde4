"""Killed at any moment: what was acknowledged is there, and nothing is there in part or twice."""

import asyncio
import random
import sqlite3
import subprocess
import sys
from contextlib import closing

import pytest

from services.profile.config import ProfileConfig
from services.profile.opening import open_store
from tests.profile.profile_events import read


async def counted(database: str, statement: str) -> int:
    """Returns the one number that a statement gives, asked beside the store."""
    if "://" not in database:
        with closing(sqlite3.connect(database)) as connection:
            assert connection.execute("PRAGMA integrity_check").fetchone() == ("ok",)
            return int(connection.execute(statement).fetchone()[0])
    import asyncpg  # noqa: PLC0415  # optional

    connection = await asyncpg.connect(database)
    try:
        return int(await connection.fetchval(statement))
    finally:
        await connection.close()


def last_stored(database: str, first: int, lines: int) -> int:
    """Runs the ingesting process, kills it with SIGKILL after `lines` acknowledgements.

    Returns the number of the last message that was acknowledged before the kill.
    """
    command = [sys.executable, "-m", "tests.profile.ingest_forever", database, str(first)]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout
        seen = [int(process.stdout.readline()) for _ in range(lines)]
        process.kill()
        seen += [int(line) for line in process.stdout if line.endswith("\n")]
    return seen[-1]


async def check(database: str, acknowledged: int) -> None:
    stored = await counted(database, "SELECT COUNT(*) FROM requests")
    assert stored in (acknowledged + 1, acknowledged + 2)  # the last may lack its acknowledgement
    assert await counted(database, "SELECT COUNT(*) FROM events") == 4 * stored
    async with open_store(ProfileConfig(database, seed_demo_users=False)) as store:
        profile = await read(store, 1)
    assert profile.post_count == profile.posts.sum() == profile.engagements.sum() == 2 * stored


def kill_and_check(database: str, kills: int) -> None:
    chance = random.Random(kills)
    acknowledged = -1
    for _ in range(kills):
        acknowledged = last_stored(database, acknowledged + 1, chance.randint(1, 30))
        asyncio.run(check(database, acknowledged))


def test_killed_while_ingesting_nothing_is_lost_or_counted_twice(database: str) -> None:
    kill_and_check(database, kills=3)


@pytest.mark.prove
def test_killed_200_times_while_ingesting_nothing_is_lost_or_counted_twice(database: str) -> None:
    kill_and_check(database, kills=200)
