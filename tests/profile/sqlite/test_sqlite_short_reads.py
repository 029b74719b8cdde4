"""When a profile is read on the event loop, and when it is not."""

import threading
from collections.abc import Callable
from pathlib import Path

import pytest

from services.profile.config import ProfileConfig
from services.profile.profiles import Profile
from services.profile.sqlite.database import SqliteDatabase
from services.profile.sqlite.short_reads import (
    AWAY_COUNT,
    LONG_COUNT,
    MAX_PROFILES,
    SHORT_S,
    ShortReads,
)
from services.profile.sqlite.store import Store
from serving.errors import NotReadyError


class Clock:
    """Stands still, but while a profile is read."""

    def __init__(self, read_s: float) -> None:
        self.now, self.read_s = 0.0, read_s

    def __call__(self) -> float:
        return self.now

    def read(self, user_id: int) -> Profile | None:
        self.now += self.read_s


def test_short_reads_of_few_profiles_stay_here() -> None:
    clock = Clock(SHORT_S / 10)
    reads = ShortReads(clock.read, clock)
    for _ in range(3):
        assert reads.takes(1)
        assert reads.profiles([1]) == [None]
    assert reads.takes(MAX_PROFILES)
    assert not reads.takes(MAX_PROFILES + 1)


def test_after_long_reads_in_a_row_a_thread_has_the_next_ones_until_one_tries_again() -> None:
    clock = Clock(SHORT_S * 2)
    reads = ShortReads(clock.read, clock)
    for _ in range(LONG_COUNT):
        assert reads.takes(1)
        reads.profiles([1])
    assert [reads.takes(1) for _ in range(AWAY_COUNT + 1)] == [False] * AWAY_COUNT + [True]
    reads.profiles([1])
    assert not reads.takes(1)


def test_a_long_read_now_and_then_may_have_waited_for_the_interpreter() -> None:
    clock = Clock(SHORT_S)
    reads = ShortReads(clock.read, clock)
    for number in range(10 * LONG_COUNT):
        clock.read_s = SHORT_S * (2 if number % LONG_COUNT else 0.1)
        assert reads.takes(1)
        reads.profiles([1])


def test_after_a_read_that_failed_a_thread_has_the_next_ones() -> None:
    def locked(user_id: int) -> Profile | None:
        raise NotReadyError("without its database")

    reads = ShortReads(locked)
    with pytest.raises(NotReadyError):
        reads.profiles([1])
    assert not reads.takes(1)


@pytest.fixture
def readers(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """Names of the threads that read profiles, as they do it."""
    names: list[str] = []
    read: Callable[[Store, int], Profile | None] = Store.profile

    def seen(store: Store, user_id: int) -> Profile | None:
        names.append(threading.current_thread().name)
        return read(store, user_id)

    monkeypatch.setattr(Store, "profile", seen)
    return names


async def test_one_profile_is_read_by_the_loop_and_many_by_a_thread(
    tmp_path: Path, readers: list[str]
) -> None:
    async with SqliteDatabase(ProfileConfig(str(tmp_path / "p.sqlite"))) as database:
        (one,) = await database.profiles([12])
        many = await database.profiles([12] * (MAX_PROFILES + 1))
    assert one is not None
    assert [profile.user_name for profile in many if profile] == [one.user_name] * len(many)
    assert readers[0] == threading.current_thread().name
    assert set(readers[1:]) == {"profile-reader_0"}


async def test_who_finds_the_database_locked_is_read_to_by_a_thread(
    tmp_path: Path, readers: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    def locked(reads: ShortReads, user_ids: list[int]) -> list[Profile | None]:
        raise NotReadyError("without its database")

    async with SqliteDatabase(ProfileConfig(str(tmp_path / "p.sqlite"))) as database:
        monkeypatch.setattr(ShortReads, "profiles", locked)
        (one,) = await database.profiles([12])
    assert one is not None
    assert readers == ["profile-reader_0"]
