"""The aggregates are a function of the set of events: told by any store, in any order."""

import asyncio
from collections.abc import Sequence
from datetime import UTC, datetime
from itertools import pairwise
from pathlib import Path
from tempfile import TemporaryDirectory
from zoneinfo import ZoneInfo

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from bench.stand_ins.real_postgres import RealPostgres
from fomofeed.profile.v1 import profile_service_pb2 as pb
from services.profile.changes import hour_of_week
from services.profile.config import ProfileConfig
from services.profile.events import ENGAGEMENTS
from services.profile.opening import open_store
from services.profile.profiles import Profile, ProfileStore
from tests.profile.profile_events import action, assert_same, at, facts, message, post

USERS = (1, 2)


def micros(*when: int) -> int:
    return int(datetime(*when, tzinfo=ZoneInfo("UTC")).timestamp()) * 1_000_000  # type: ignore[arg-type,misc]  # year, month, …


@pytest.mark.parametrize(
    ("zone", "moment", "cell"),
    [
        ("Europe/Berlin", (2026, 3, 29, 0, 59), 6 * 24 + 1),  # the minute before clocks go forward
        ("Europe/Berlin", (2026, 3, 29, 1, 0), 6 * 24 + 3),  # 03:00: hour 2 does not exist
        ("Europe/Berlin", (2026, 10, 25, 0, 30), 6 * 24 + 2),  # 02:30, summer time
        ("Europe/Berlin", (2026, 10, 25, 1, 30), 6 * 24 + 2),  # 02:30 again, winter time
        ("Australia/Lord_Howe", (2026, 4, 4, 14, 45), 6 * 24 + 1),  # summer time is half an hour
        ("Asia/Kathmandu", (2026, 5, 3, 18, 20), 0),  # 5 h 45 min ahead: it is Monday there
        ("Pacific/Kiritimati", (2026, 5, 3, 10, 0), 0),  # 14 h ahead
        ("Pacific/Pago_Pago", (2026, 5, 4, 10, 59), 6 * 24 + 23),  # 11 h behind: still Sunday
    ],
)
def test_zones_and_summer_time_move_the_cell_as_they_move_the_clock(
    zone: str, moment: tuple[int, ...], cell: int
) -> None:
    assert hour_of_week(micros(*moment), zone) == cell


ACTIONS = st.builds(
    action,
    user_id=st.sampled_from(USERS),
    post_id=st.integers(1, 4),
    kind=st.sampled_from([pb.EVENT_KIND_IMPRESSION, *sorted(ENGAGEMENTS)]),
    weight=st.integers(1, 9).map(float),
)
TIMES = st.datetimes(datetime(2026, 1, 1), datetime(2026, 12, 31)).map(
    lambda moment: at(moment.replace(tzinfo=UTC))
)
ZONES = st.sampled_from(["UTC", "America/Sao_Paulo", "Asia/Kolkata", "Australia/Lord_Howe"])


@st.composite
def event_sets(draw: st.DrawFn) -> list[pb.Event]:
    keys = draw(st.sets(st.tuples(st.sampled_from(USERS), st.integers(1, 4))))
    posts = [post(user, number, draw(TIMES)) for user, number in sorted(keys)]
    fact_times = draw(st.lists(TIMES, max_size=3, unique_by=lambda time: time.seconds))
    known = [facts(1, draw(ZONES), time) for time in fact_times]
    return posts + known + draw(st.lists(ACTIONS, max_size=12))


Groups = Sequence[Sequence[pb.Event]]


@st.composite
def groupings(draw: st.DrawFn) -> tuple[list[pb.Event], Groups]:
    """The events at once, and the same in another order and in up to four messages."""
    events = draw(event_sets().filter(bool))
    shuffled = draw(st.permutations(events))
    cuts = draw(st.sets(st.integers(1, len(events) - 1), max_size=3)) if len(events) > 1 else set()
    groups = [shuffled[a:b] for a, b in pairwise(sorted({0, *cuts, len(events)}))]
    return events, groups


async def told(store: ProfileStore, groups: Groups) -> list[Profile | None]:
    for number, group in enumerate(groups):
        await store.ingest(message(str(number), *group))
    return await store.profiles(USERS)


async def in_sqlite(groups: Groups) -> list[Profile | None]:
    with TemporaryDirectory() as folder:
        path = str(Path(folder) / "profile.sqlite")
        config = ProfileConfig(path, seed_demo_users=False, is_synced=False)
        async with open_store(config) as store:
            return await told(store, groups)


async def in_postgres(url: str, groups: Groups) -> list[Profile | None]:
    async with open_store(ProfileConfig(url, seed_demo_users=False, is_synced=False)) as store:
        return await told(store, groups)


@settings(max_examples=40)
@given(both=groupings())
def test_aggregates_do_not_depend_on_order_or_grouping(
    both: tuple[list[pb.Event], Groups],
) -> None:
    events, groups = both
    together, apart = asyncio.run(in_sqlite([events])), asyncio.run(in_sqlite(groups))
    for one, other in zip(together, apart, strict=True):
        assert_same(one, other)


@pytest.mark.extras
def test_postgres_tells_what_sqlite_tells(real_postgres: RealPostgres) -> None:
    @settings(max_examples=15)
    @given(both=groupings())
    def check(both: tuple[list[pb.Event], Groups]) -> None:
        events, groups = both
        one = asyncio.run(in_sqlite([events]))
        other = asyncio.run(in_postgres(real_postgres.new_database(), groups))
        for profile, same in zip(one, other, strict=True):
            assert_same(profile, same)

    check()
