"""Killed at any moment: what was acknowledged is there, and nothing is there in part or twice."""

import pytest

from bench.profile_crash import Found, kill_often


async def check_kills(database: str, kills: int) -> Found:
    found = await kill_often(database, kills)
    assert found.wrong == []
    assert found.acknowledged > kills
    return found


async def test_a_server_killed_while_ingesting_loses_nothing_and_counts_nothing_twice(
    database: str,
) -> None:
    await check_kills(database, kills=8)


@pytest.mark.prove
async def test_a_server_killed_200_times_loses_nothing_and_counts_nothing_twice(
    database: str,
) -> None:
    found = await check_kills(database, kills=200)
    assert found.unanswered > 200  # the kills came between writing and answering
