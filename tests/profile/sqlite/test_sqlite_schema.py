"""Older databases are brought up to date, newer ones refused."""

import sqlite3
from contextlib import closing
from pathlib import Path

import pytest

from services.profile.sqlite.schema import STEPS
from services.profile.sqlite.store import Store
from serving.migrations import SchemaError, request_key
from tests.profile.profile_events import facts, message, post


def rows(path: Path) -> list[list[object]]:
    """The rows of all tables of profiles."""
    with closing(sqlite3.connect(path)) as connection:
        return [
            connection.execute(f"SELECT * FROM {table} ORDER BY 1, 2").fetchall()
            for table in ("users", "cells", "posts", "events")
        ]


def database_of(version: int, path: Path) -> None:
    """Makes a database as the program of an older version left it, with one user in it."""
    same = message("zsofia-phone-1", facts(1, "Asia/Tokyo"), post(1, 5))
    with closing(sqlite3.connect(path)) as old:
        old.create_function("request_key", 1, lambda _: b"")
        old.executescript("".join(STEPS[:version]))
        old.execute("INSERT INTO users VALUES (1, 'Ada', 'Asia/Tokyo', 10, 5, 7, 1, 8.0, 2.0)")
        old.execute("INSERT INTO cells VALUES (1, 21, 1.0, 2.0)")
        old.execute("INSERT INTO posts VALUES (1, 5, 1777896000000000, 2.0)")
        old.execute("INSERT INTO events VALUES (1, 2, 5, 1777896000000000, 1.0)")
        key = "zsofia-phone-1" if version == 1 else request_key("zsofia-phone-1")
        old.execute("INSERT INTO requests VALUES (?, ?, 2)", (key, same.digest))
        old.execute(f"PRAGMA user_version = {version}")
        old.commit()


@pytest.mark.parametrize("version", [1, 2])
def test_an_older_database_is_brought_up_to_date_and_keeps_everything(
    tmp_path: Path, version: int
) -> None:
    path = tmp_path / "profile.sqlite"
    database_of(version, path)
    before = rows(path)
    with closing(Store(path)) as store:
        same = message("zsofia-phone-1", facts(1, "Asia/Tokyo"), post(1, 5))
        assert store.ingest([same])[0].duplicate_count == 2
        assert rows(path) == before
        profile = store.profile(1)
        assert profile is not None
        assert (profile.user_name, profile.avg_engagement, profile.posts[21]) == ("Ada", 0.25, 1)
        version_now = store._connection.execute("SELECT version FROM schema_version").fetchone()
        assert version_now == (len(STEPS),)


def test_request_ids_of_an_older_database_are_kept_as_digests_from_then_on(tmp_path: Path) -> None:
    path = tmp_path / "profile.sqlite"
    database_of(1, path)
    with closing(Store(path)) as store:
        store.erase()
    assert [b"zsofia" in file.read_bytes() for file in tmp_path.iterdir()] == [False]


def test_a_new_database_has_the_tables_of_one_that_grew(tmp_path: Path) -> None:
    database_of(1, tmp_path / "old.sqlite")
    tables = []
    for name in ("old.sqlite", "new.sqlite"):
        with closing(Store(tmp_path / name)) as store:
            found = store._connection.execute("SELECT name, sql FROM sqlite_master ORDER BY name")
            tables.append(found.fetchall())
    assert tables[0] == tables[1]


@pytest.mark.parametrize(
    "newer", ["UPDATE schema_version SET version = 99", "DROP TABLE schema_version"]
)
def test_a_database_of_a_newer_program_is_refused_in_words(tmp_path: Path, newer: str) -> None:
    path = tmp_path / "profile.sqlite"
    with closing(Store(path)) as store:
        store.ingest([message("a", post(1, 5))])
        store._connection.execute(newer)
        store._connection.execute("PRAGMA user_version = 99")
    before = rows(path)
    with pytest.raises(SchemaError, match="schema 99, this program knows up to 3: start the newer"):
        Store(path)
    assert rows(path) == before
