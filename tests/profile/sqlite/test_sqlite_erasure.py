"""Deletion in SQLite: what is gone from the files."""

import shutil
import sqlite3
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

import pytest

from fomofeed.profile.v1 import profile_service_pb2 as pb
from services.profile.config import ProfileConfig
from services.profile.opening import open_store
from services.profile.sqlite.erasure import delete_rows
from services.profile.sqlite.store import Store
from serving.errors import NotReadyError
from serving.sqlite import transaction
from tests.profile.profile_events import action, facts, message, post

USER = 0x5A17_3C9B_E24D  # of a pattern of bytes that nothing else has
OTHER = 0x11_2233
POST = 0x6B5E_91D7_42F3
NAME = "Zsófia Quux-Wyvern"


def named(user_id: int, name: str) -> pb.Event:
    event = facts(user_id, "Europe/Budapest")
    event.user.user_name = name
    return event


def traces(folder: Path, *needles: bytes) -> list[tuple[str, bytes]]:
    """Returns which file of a folder holds which of the needles."""
    found = [(path, path.read_bytes()) for path in sorted(folder.glob("profile*"))]
    return [
        (path.name, needle) for path, content in found for needle in needles if needle in content
    ]


def needles() -> list[bytes]:
    ids = [number.to_bytes(6, "big") for number in (USER, POST)]
    return [NAME.encode(), b"Quux", b"zsofia-phone", *ids]


def files_as_they_are(folder: Path) -> Path:
    """Copies a database that is open, log and all, as a crash would leave it."""
    copy = folder / "copy"
    copy.mkdir()
    for path in folder.glob("profile.sqlite*"):
        shutil.copy(path, copy)
    return copy


def fill(store: Store) -> None:
    """Stores the user among many others, in rows that pages had to be split for.

    Some builds of SQLite wipe deleted rows by themselves; here none does.
    """
    store._connection.execute("PRAGMA secure_delete = OFF")
    for number in range(40):
        mine = [post(USER, POST + number), action(USER, POST + number, weight=2.0)]
        others = [post(OTHER + number + k, number + 1) for k in range(60)]
        store.ingest([message(f"zsofia-phone-{number}", named(USER, NAME), *mine, *others)])
    store.ingest([message("rename", named(USER, f"{NAME} the second"))])


@pytest.fixture
def store(tmp_path: Path) -> Iterator[Store]:
    with closing(Store(tmp_path / "profile.sqlite")) as opened:
        fill(opened)
        yield opened


def test_no_byte_of_a_deleted_user_is_left_in_any_file(store: Store, tmp_path: Path) -> None:
    held = {needle for _, needle in traces(tmp_path, *needles())}
    assert held == set(needles()) - {b"zsofia-phone"}  # request ids are never kept as they are
    assert store.delete(USER)
    assert traces(tmp_path, *needles()) == []
    files = {path.suffix for path in tmp_path.iterdir()}
    assert files == {".sqlite", ".sqlite-wal", ".sqlite-shm"}


def test_what_a_reader_kept_from_being_erased_is_erased_at_the_next_call(
    store: Store, tmp_path: Path
) -> None:
    store._connection.execute("PRAGMA busy_timeout = 50")
    with closing(sqlite3.connect(tmp_path / "profile.sqlite", isolation_level=None)) as reader:
        reader.execute("BEGIN")
        reader.execute("SELECT COUNT(*) FROM users").fetchone()
        with pytest.raises(NotReadyError, match="erasing"):
            store.delete(USER)
        assert store.profile(USER) is None
        reader.execute("COMMIT")
    assert not store.delete(USER)
    assert traces(tmp_path, *needles()) == []


async def test_a_deletion_that_a_crash_cut_short_is_finished_at_the_start(
    store: Store, tmp_path: Path
) -> None:
    with transaction(store._connection):
        delete_rows(store._connection, USER)
    left = files_as_they_are(tmp_path)
    assert traces(left, *needles())
    config = ProfileConfig(str(left / "profile.sqlite"), seed_demo_users=False)
    async with open_store(config) as opened:
        assert traces(left, *needles()) == []
        assert await opened.profiles([USER]) == [None]
