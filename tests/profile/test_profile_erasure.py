"""Deletion and retention: what is gone from the files, and what must stay as it was."""

import asyncio
import shutil
import sqlite3
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import closing
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import grpc
import numpy as np
import pytest

from fomofeed.profile.v1 import profile_service_pb2 as pb
from fomofeed.profile.v1 import profile_service_pb2_grpc as pb_grpc
from services.profile.config import ProfileConfig
from services.profile.database import DAY_US, Database
from services.profile.erasure import delete_rows
from services.profile.events import Message, read_message
from services.profile.servicer import ProfileServicer
from services.profile.store import Profile, Store
from serving.errors import NotReadyError
from tests.profile.profile_events import NOON, action, at, facts, post

Stub = Any  # the generated stub: its type is only known to the checker
USER = 0x5A17_3C9B_E24D  # of a pattern of bytes that nothing else has
OTHER = 0x11_2233
POST = 0x6B5E_91D7_42F3
NAME = "Zsófia Quux-Wyvern"
NOW = datetime(2026, 5, 10, tzinfo=UTC)


def named(user_id: int, name: str) -> pb.Event:
    event = facts(user_id, "Europe/Budapest")
    event.user.user_name = name
    return event


def message(request_id: str, *events: pb.Event) -> Message:
    return read_message(pb.IngestEventsRequest(request_id=request_id, events=events))


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


def test_deletion_leaves_everybody_else_as_they_were(store: Store) -> None:
    before = [store.profile(OTHER + k) for k in range(99)]
    store.delete(USER)
    for one, other in zip(before, (store.profile(OTHER + k) for k in range(99)), strict=True):
        assert_same(one, other)


def test_deleting_twice_changes_nothing_more(store: Store) -> None:
    assert store.delete(USER)
    assert not store.delete(USER)
    assert store.profile(USER) is None


def test_a_repeated_message_does_not_bring_the_user_back(store: Store) -> None:
    again = message("rename", named(USER, f"{NAME} the second"))
    store.delete(USER)
    assert store.ingest([again])[0].duplicate_count == 1
    assert store.profile(USER) is None


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
    with store._transaction():
        delete_rows(store._connection, USER)
    left = files_as_they_are(tmp_path)
    assert traces(left, *needles())
    config = ProfileConfig(database=left / "profile.sqlite", seed_demo_users=False)
    async with Database(config) as database:
        assert traces(left, *needles()) == []
        assert await database.profiles([USER]) == [None]


def test_request_ids_of_an_older_database_are_kept_as_digests_from_then_on(tmp_path: Path) -> None:
    path = tmp_path / "profile.sqlite"
    same = message("zsofia-phone-1", post(1, 5))
    with closing(Store(path)) as old:
        old._connection.executescript(
            "DROP TABLE requests; DROP TABLE erasure; PRAGMA user_version = 1;"
            "CREATE TABLE requests (request_id TEXT PRIMARY KEY, digest BLOB NOT NULL,"
            " event_count INTEGER NOT NULL) WITHOUT ROWID;"
        )
        row = (same.request_id, same.digest, same.event_count)
        old._connection.execute("INSERT INTO requests VALUES (?, ?, ?)", row)
    with closing(Store(path)) as new:
        assert new.ingest([same])[0].duplicate_count == 1
        new.erase()
        assert traces(tmp_path, b"zsofia-phone") == []


def test_retention_empties_the_log_and_changes_no_profile(tmp_path: Path) -> None:
    kept_us = 7 * DAY_US
    old, young = at(NOW - timedelta(days=30)), at(NOW - timedelta(days=1))
    early = message("a", named(1, "x"), post(1, 5, old), action(1, 5, weight=3.0, when=old))
    late = message("b", post(1, 6, young), action(1, 5, weight=4.0, when=young))
    moved = message("c", facts(1, "Asia/Tokyo", at(NOW)))
    with (
        closing(Store(tmp_path / "dropped" / "p.sqlite")) as dropped,
        closing(Store(tmp_path / "whole" / "p.sqlite")) as whole,
    ):
        for store in (dropped, whole):
            store.ingest([early])
        assert dropped.drop_events(micros(NOW), kept_us) == 0  # nothing younger is known
        for store in (dropped, whole):
            store.ingest([late])
        assert dropped.drop_events(micros(NOW), kept_us) == 2
        for store in (dropped, whole):
            assert store.ingest([early, moved])[0].duplicate_count == 3
        assert_same(dropped.profile(1), whole.profile(1))


@pytest.mark.parametrize("now", [NOW + timedelta(days=9000), NOW - timedelta(days=9000)])
def test_a_clock_that_leapt_does_not_empty_the_log(tmp_path: Path, now: datetime) -> None:
    with closing(Store(tmp_path / "profile.sqlite")) as store:
        store.ingest([message("a", post(1, 5)), message("b", post(1, 6, at(NOW)))])
        assert store.drop_events(micros(now), 30 * DAY_US) == 0


def test_an_event_from_the_future_does_not_empty_the_log(tmp_path: Path) -> None:
    future = at(datetime(2099, 1, 1, tzinfo=UTC))
    with closing(Store(tmp_path / "profile.sqlite")) as store:
        store.ingest([message("a", post(1, 5)), message("b", post(1, 6, future))])
        assert store.drop_events(micros(NOW), 30 * DAY_US) == 0


async def test_old_events_leave_the_log_when_the_server_starts(tmp_path: Path) -> None:
    path = tmp_path / "profile.sqlite"
    with closing(Store(path)) as store:
        long_ago = at(NOW - timedelta(days=400))
        store.ingest([message("a", post(1, 5, long_ago)), message("b", post(1, 6, at(NOW)))])
    config = ProfileConfig(database=path, seed_demo_users=False, retention_days=30)
    async with Database(config, clock=lambda: NOW) as database:
        assert await database.drop_old_events(30 * DAY_US) == 0  # already done
    with closing(Store(path)) as store:
        assert store._connection.execute("SELECT post_id FROM events").fetchall() == [(6,)]


@pytest.fixture
async def profiles(serving_on: Any, config: Callable[..., ProfileConfig]) -> AsyncIterator[Stub]:
    async with Database(config()) as database:
        servicer = ProfileServicer(database, clock=lambda: NOW)
        running = await serving_on([(pb_grpc.add_ProfileServiceServicer_to_server, servicer)])
        yield pb_grpc.ProfileServiceStub(running.channel)


def ingest(stub: Stub, request_id: str, *events: pb.Event) -> Any:
    return stub.IngestEvents(iter([pb.IngestEventsRequest(request_id=request_id, events=events)]))


async def failure(call: Any) -> grpc.aio.AioRpcError:
    with pytest.raises(grpc.aio.AioRpcError) as caught:
        await call
    return caught.value


async def test_a_deleted_user_is_not_found_and_may_begin_anew(profiles: Stub) -> None:
    request = pb.DeleteUserRequest(user_id=3)
    await ingest(profiles, "a", facts(3, "UTC"), post(3, 1))
    assert (await profiles.DeleteUser(request)).was_known
    assert not (await profiles.DeleteUser(request)).was_known
    error = await failure(profiles.GetUserProfile(pb.GetUserProfileRequest(user_id=3)))
    assert error.code() is grpc.StatusCode.NOT_FOUND
    await ingest(profiles, "b", post(3, 9))
    user = (await profiles.GetUserProfile(pb.GetUserProfileRequest(user_id=3))).user
    assert (user.user_name, user.post_count) == ("", 1)


async def test_deleting_an_id_below_one_is_refused(profiles: Stub) -> None:
    error = await failure(profiles.DeleteUser(pb.DeleteUserRequest(user_id=0)))
    assert error.code() is grpc.StatusCode.INVALID_ARGUMENT
    assert error.details() == "user_id is 0, at least 1"


async def test_an_event_after_tomorrow_is_refused_and_names_both_clocks(profiles: Stub) -> None:
    await ingest(profiles, "a", post(1, 1, at(NOW + timedelta(hours=23))))
    late = at(NOW + timedelta(days=365))
    error = await failure(ingest(profiles, "b", facts(1, "UTC", late)))
    assert error.code() is grpc.StatusCode.INVALID_ARGUMENT
    assert (error.details() or "").startswith(
        "events.event_time is 2027-05-10T00:00:00+00:00, at most a day ahead of the server's clock"
    )


async def test_of_two_contents_under_one_request_id_exactly_one_is_stored(profiles: Stub) -> None:
    calls = [ingest(profiles, "same", post(1, number)) for number in (1, 2, 1, 2, 1, 2)]
    answers = await asyncio.gather(*calls, return_exceptions=True)
    refused = [answer for answer in answers if isinstance(answer, grpc.aio.AioRpcError)]
    stored = [answer for answer in answers if isinstance(answer, pb.IngestEventsResponse)]
    assert {error.code() for error in refused} == {grpc.StatusCode.INVALID_ARGUMENT}
    assert (len(refused), len(stored)) == (3, 3)
    assert sum(answer.accepted_count for answer in stored) == 1


def micros(moment: datetime) -> int:
    return int(moment.timestamp() * 1e6)


def assert_same(one: Profile | None, other: Profile | None) -> None:
    assert one is not None and other is not None
    for name in Profile.__slots__:
        assert np.array_equal(getattr(one, name), getattr(other, name)), name


def test_noon_is_before_the_clock_of_these_tests() -> None:
    assert NOON.ToDatetime(tzinfo=UTC) < NOW
