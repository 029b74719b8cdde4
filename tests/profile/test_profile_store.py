from collections.abc import Iterator
from contextlib import closing, contextmanager
from datetime import UTC, datetime
from itertools import pairwise
from pathlib import Path
from tempfile import TemporaryDirectory
from zoneinfo import ZoneInfo

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from fomofeed.profile.v1 import profile_service_pb2 as pb
from services.profile.events import ENGAGEMENTS, Message, read_message
from services.profile.store import Profile, Store, Stored, hour_of_week
from serving.errors import InvalidRequestError
from tests.profile.profile_events import action, at, facts, post


@contextmanager
def fresh_store() -> Iterator[Store]:
    with (
        TemporaryDirectory() as folder,
        closing(Store(Path(folder) / "profile.sqlite", is_synced=False)) as store,
    ):
        yield store


def message(request_id: str, *events: pb.Event) -> Message:
    return read_message(pb.IngestEventsRequest(request_id=request_id, events=events))


def read(store: Store, user_id: int) -> Profile:
    profile = store.profile(user_id)
    assert profile is not None
    return profile


def micros(*when: int, zone: str = "UTC") -> int:
    return int(datetime(*when, tzinfo=ZoneInfo(zone)).timestamp()) * 1_000_000  # type: ignore[arg-type,misc]  # year, month, …


def test_tuesday_evening_in_sao_paulo_is_cell_43() -> None:
    tuesday = at(datetime(2026, 5, 5, 19, 40, tzinfo=ZoneInfo("America/Sao_Paulo")))
    with fresh_store() as store:
        zone = "America/Sao_Paulo"
        store.ingest([message("a", facts(7, zone), post(7, 1, tuesday), action(7, 1, weight=5.0))])
        profile = read(store, 7)
    assert np.flatnonzero(profile.posts).tolist() == [43]
    assert profile.engagements[43] == 5


@pytest.mark.parametrize(
    ("moment", "cell"),
    [
        ((2026, 3, 29, 0, 59), 6 * 24 + 1),  # 01:59 in Berlin, the minute before clocks go forward
        ((2026, 3, 29, 1, 0), 6 * 24 + 3),  # 03:00: hour 2 does not exist
        ((2026, 10, 25, 0, 30), 6 * 24 + 2),  # 02:30, summer time
        ((2026, 10, 25, 1, 30), 6 * 24 + 2),  # 02:30 again, winter time
    ],
)
def test_summer_time_moves_the_cell_as_it_moves_the_clock(
    moment: tuple[int, ...], cell: int
) -> None:
    assert hour_of_week(micros(*moment), "Europe/Berlin") == cell


def test_engagements_before_their_post_wait_for_it() -> None:
    with fresh_store() as store:
        store.ingest([message("a", action(1, 5, weight=3.0))])
        assert not read(store, 1).engagements.any()
        store.ingest([message("b", post(1, 5))])
        profile = read(store, 1)
    assert profile.engagements[12] == 3
    assert profile.post_count == 1


def test_a_change_of_zone_recounts_the_hours() -> None:
    with fresh_store() as store:
        store.ingest([message("a", facts(1, "UTC"), post(1, 5), action(1, 5))])
        later = at(datetime(2026, 5, 6, tzinfo=UTC))
        store.ingest([message("b", facts(1, "Asia/Tokyo", later))])
        profile = read(store, 1)
    assert np.flatnonzero(profile.posts).tolist() == [21]
    assert np.flatnonzero(profile.engagements).tolist() == [21]


def test_older_facts_do_not_replace_newer_ones() -> None:
    older = at(datetime(2025, 1, 1, tzinfo=UTC))
    with fresh_store() as store:
        store.ingest([message("a", facts(1, "Asia/Tokyo", followers=9))])
        store.ingest([message("b", facts(1, "Europe/Rome", older, followers=5))])
        profile = read(store, 1)
    assert (profile.time_zone, profile.follower_count) == ("Asia/Tokyo", 9)


def test_unknown_facts_are_absent_not_zero() -> None:
    with fresh_store() as store:
        store.ingest([message("a", post(1, 5))])
        profile = read(store, 1)
    assert profile.follower_count is None
    assert profile.avg_engagement is None


def test_repeated_message_counts_once() -> None:
    events = (post(1, 5), action(1, 5))
    with fresh_store() as store:
        assert store.ingest([message("a", *events)]) == [Stored(2, 0)]
        assert store.ingest([message("a", *events)]) == [Stored(0, 2)]
        assert read(store, 1).engagements.sum() == 1


def test_same_request_id_with_other_events_is_refused_and_changes_nothing() -> None:
    with fresh_store() as store:
        store.ingest([message("a", post(1, 5))])
        with pytest.raises(InvalidRequestError, match="request_id is 'a', once for one content"):
            store.ingest([message("b", action(1, 5)), message("a", post(1, 6))])
        profile = read(store, 1)
    assert profile.post_count == 1
    assert not profile.engagements.any()


def test_what_was_stored_is_there_when_opened_again(tmp_path: Path) -> None:
    path = tmp_path / "deep" / "profile.sqlite"
    with closing(Store(path)) as store:
        store.ingest([message("a", post(1, 5))])
    with closing(Store(path)) as store:
        assert read(store, 1).post_count == 1


def test_a_database_of_another_schema_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "profile.sqlite"
    with closing(Store(path)) as store:
        store._connection.execute("PRAGMA user_version = 99")
    with pytest.raises(OSError, match="schema 99"):
        Store(path)


ACTIONS = st.builds(
    action,
    user_id=st.integers(1, 2),
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
    keys = draw(st.sets(st.tuples(st.integers(1, 2), st.integers(1, 4))))
    posts = [post(user, number, draw(TIMES)) for user, number in sorted(keys)]
    fact_times = draw(st.lists(TIMES, max_size=3, unique_by=lambda time: time.seconds))
    known = [facts(1, draw(ZONES), time) for time in fact_times]
    return posts + known + draw(st.lists(ACTIONS, max_size=12))


@settings(max_examples=60, deadline=None)
@given(events=event_sets(), data=st.data())
def test_aggregates_do_not_depend_on_order_or_grouping(
    events: list[pb.Event], data: st.DataObject
) -> None:
    shuffled = data.draw(st.permutations(events))
    cuts = data.draw(st.sets(st.integers(0, len(events)), max_size=3))
    groups = [shuffled[a:b] for a, b in pairwise(sorted({0, *cuts, len(events)}))]
    with fresh_store() as together, fresh_store() as apart:
        if events:
            together.ingest([message("all", *events)])
        for number, group in enumerate(groups):
            apart.ingest([message(str(number), *group)])
        for user_id in (1, 2):
            assert_same(together.profile(user_id), apart.profile(user_id))


def assert_same(one: Profile | None, other: Profile | None) -> None:
    assert (one is None) == (other is None)
    if one is None or other is None:
        return
    for name in Profile.__slots__:
        assert np.array_equal(getattr(one, name), getattr(other, name)), name
