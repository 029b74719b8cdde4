"""Recorded outcomes: kept, counted once, and gone from the files when their user is deleted."""

import sqlite3
from collections.abc import AsyncIterator
from contextlib import closing
from pathlib import Path

import pytest

from services.timing.outcome_schema import STEPS
from services.timing.outcomes import Outcome, OutcomeStore
from serving.errors import InvalidRequestError, NotReadyError
from serving.migrations import SchemaError

USER = 0x5A17_3C9B_E24D  # of a pattern of bytes that nothing else has
POST_US = 0x6_25CB_91D7_42F3  # a moment of the year 2024, likewise


def traces(folder: Path) -> list[str]:
    """Names the files that hold the user, the post's time or the request id."""
    needles = [USER.to_bytes(6, "big"), POST_US.to_bytes(7, "big"), b"zsofia-phone"]
    found = {path.name: path.read_bytes() for path in sorted(folder.glob("timing*"))}
    return [name for name, content in found.items() if any(n in content for n in needles)]


@pytest.fixture
def database(tmp_path: Path) -> Path:
    return tmp_path / "timing.sqlite"


@pytest.fixture
async def store(database: Path) -> AsyncIterator[OutcomeStore]:
    async with OutcomeStore(database) as opened:
        opened._connection.execute("PRAGMA secure_delete = OFF")
        for number in range(50):
            mine = Outcome(USER, POST_US + number, 3.0)
            await opened.record(f"zsofia-phone-{number}", mine)
            await opened.record(f"other-{number}", Outcome(7, number, 5.0))
        yield opened


async def test_no_byte_of_deleted_outcomes_is_left_in_any_file(
    store: OutcomeStore, tmp_path: Path
) -> None:
    assert traces(tmp_path)
    assert await store.delete(USER) == 50
    assert traces(tmp_path) == []
    assert await store.of_user(USER) == []
    assert len(await store.of_user(7)) == 50
    assert await store.delete(USER) == 0


async def test_a_repeated_outcome_does_not_come_back_after_deletion(store: OutcomeStore) -> None:
    await store.delete(USER)
    assert not await store.record("zsofia-phone-3", Outcome(USER, POST_US + 3, 3.0))
    with pytest.raises(InvalidRequestError, match="once for one outcome"):
        await store.record("zsofia-phone-3", Outcome(USER, POST_US + 4, 3.0))
    assert await store.of_user(USER) == []


async def test_what_a_reader_kept_from_being_erased_is_erased_at_the_next_call(
    store: OutcomeStore, database: Path, tmp_path: Path
) -> None:
    store._connection.execute("PRAGMA busy_timeout = 50")
    with closing(sqlite3.connect(database, isolation_level=None)) as reader:
        reader.execute("BEGIN")
        reader.execute("SELECT COUNT(*) FROM outcomes").fetchone()
        with pytest.raises(NotReadyError, match="erasing"):
            await store.delete(USER)
        assert await store.of_user(USER) == []
        reader.execute("COMMIT")
    assert await store.delete(USER) == 0
    assert traces(tmp_path) == []


async def test_a_database_that_another_process_writes_is_told_as_not_ready(
    store: OutcomeStore, database: Path
) -> None:
    store._connection.execute("PRAGMA busy_timeout = 50")
    with closing(sqlite3.connect(database, isolation_level=None)) as writer:
        writer.execute("BEGIN IMMEDIATE")
        with pytest.raises(NotReadyError, match="without its database"):
            await store.record("late", Outcome(1, 1, 1.0))
        writer.execute("COMMIT")
    assert await store.record("late", Outcome(1, 1, 1.0))


async def test_outcomes_of_an_older_database_are_kept_and_their_ids_become_digests(
    database: Path, tmp_path: Path
) -> None:
    with closing(sqlite3.connect(database)) as old:
        old.executescript(STEPS[0])
        old.execute("INSERT INTO outcomes VALUES ('zsofia-phone', 5, 77, 3.0)")
        old.commit()
    async with OutcomeStore(database) as store:
        assert await store.of_user(5) == [Outcome(5, 77, 3.0)]
        assert not await store.record("zsofia-phone", Outcome(5, 77, 3.0))
        with pytest.raises(InvalidRequestError):
            await store.record("zsofia-phone", Outcome(5, 77, 4.0))
        assert traces(tmp_path) == []


async def test_a_database_of_a_newer_program_is_refused_in_words(
    store: OutcomeStore, database: Path
) -> None:
    store._connection.execute("UPDATE schema_version SET version = 99")
    with pytest.raises(SchemaError, match="timing database has schema 99, this program knows"):
        async with OutcomeStore(database):
            pass
