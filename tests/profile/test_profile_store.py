"""What every store of profiles does, SQLite and PostgreSQL alike."""

from datetime import UTC, datetime, timedelta
from zoneinfo import ZoneInfo

import numpy as np
import pytest

from services.profile.opening import open_store
from services.profile.profiles import ProfileStore, Stored
from services.profile.retention import DAY_US
from serving.errors import InvalidRequestError
from tests.profile.conftest import NOW, Configure
from tests.profile.profile_events import action, assert_same, at, facts, message, post, read

YEAR = timedelta(days=365)


async def test_tuesday_evening_in_sao_paulo_is_cell_43(store: ProfileStore) -> None:
    tuesday = at(datetime(2026, 5, 5, 19, 40, tzinfo=ZoneInfo("America/Sao_Paulo")))
    known = facts(7, "America/Sao_Paulo")
    await store.ingest(message("a", known, post(7, 1, tuesday), action(7, 1, weight=5.0)))
    profile = await read(store, 7)
    assert np.flatnonzero(profile.posts).tolist() == [43]
    assert profile.engagements[43] == 5


async def test_engagements_before_their_post_wait_for_it(store: ProfileStore) -> None:
    await store.ingest(message("a", action(1, 5, weight=3.0)))
    assert not (await read(store, 1)).engagements.any()
    await store.ingest(message("b", post(1, 5), action(1, 5, weight=4.0)))
    profile = await read(store, 1)
    assert profile.engagements[12] == 7
    assert profile.post_count == 1


async def test_a_change_of_zone_recounts_the_hours(store: ProfileStore) -> None:
    await store.ingest(message("a", facts(1, "UTC"), post(1, 5), action(1, 5)))
    later = at(datetime(2026, 5, 6, tzinfo=UTC))
    await store.ingest(message("b", facts(1, "Asia/Tokyo", later), post(1, 6), action(1, 5)))
    profile = await read(store, 1)
    assert np.flatnonzero(profile.posts).tolist() == [21]
    assert profile.posts[21] == profile.engagements[21] == 2


async def test_older_facts_do_not_replace_newer_ones(store: ProfileStore) -> None:
    older = at(datetime(2025, 1, 1, tzinfo=UTC))
    await store.ingest(message("a", facts(1, "Asia/Tokyo", followers=9)))
    await store.ingest(message("b", facts(1, "Europe/Rome", older, followers=5)))
    profile = await read(store, 1)
    assert (profile.time_zone, profile.follower_count) == ("Asia/Tokyo", 9)


async def test_unknown_facts_are_absent_not_zero(store: ProfileStore) -> None:
    await store.ingest(message("a", post(1, 5)))
    profile = await read(store, 1)
    assert profile.follower_count is None
    assert profile.avg_engagement is None


async def test_profiles_come_in_the_order_of_the_ids(store: ProfileStore) -> None:
    await store.ingest(message("a", post(1, 5), post(2, 5)))
    found = await store.profiles([2, 404, 1, 2])
    assert [profile and profile.user_id for profile in found] == [2, None, 1, 2]


async def test_repeated_message_counts_once(store: ProfileStore) -> None:
    same = message("a", post(1, 5), action(1, 5))
    assert await store.ingest(same) == Stored(2, 0)
    assert await store.ingest(same) == Stored(0, 2)
    assert (await read(store, 1)).engagements.sum() == 1


async def test_a_post_that_was_told_before_counts_as_a_duplicate(store: ProfileStore) -> None:
    assert await store.ingest(message("a", post(1, 5), post(1, 5), post(1, 6))) == Stored(2, 1)
    assert await store.ingest(message("b", post(1, 5), post(2, 5))) == Stored(1, 1)
    assert (await read(store, 1)).post_count == 2


async def test_same_request_id_with_other_events_is_refused_and_changes_nothing(
    store: ProfileStore,
) -> None:
    await store.ingest(message("a", post(1, 5)))
    with pytest.raises(InvalidRequestError, match="request_id is 'a', once for one content"):
        await store.ingest(message("a", post(1, 6)))
    assert (await read(store, 1)).post_count == 1


async def test_the_largest_numbers_and_any_letters_come_back(store: ProfileStore) -> None:
    user_id, name = 2**63 - 1, "Zsófia 🎉 ' \" \\ %s ?1 $1"
    known = facts(user_id, "UTC", followers=10**12)
    known.user.user_name = name
    shown = action(user_id, 2**63 - 1, weight=1e9)
    await store.ingest(message("a'\n", known, post(user_id, 2**63 - 1), shown))
    profile = await read(store, user_id)
    assert (profile.user_name, profile.follower_count) == (name, 10**12)
    assert profile.engagements.sum() == 1e9


async def test_what_was_stored_is_there_when_opened_again(configure: Configure) -> None:
    async with open_store(configure()) as store:
        await store.ingest(message("a", post(1, 5)))
    async with open_store(configure()) as store:
        assert (await read(store, 1)).post_count == 1


async def test_demo_users_are_seeded_once_and_labelled(configure: Configure) -> None:
    for _ in range(2):
        async with open_store(configure(seed_demo_users=True)) as store:
            marina = await read(store, 12)
            assert marina.user_name == "Marina Souza (simulated)"
            assert marina.post_count == 240


async def test_a_database_with_users_gets_no_demo_users(configure: Configure) -> None:
    async with open_store(configure()) as store:
        await store.ingest(message("a", post(1, 5)))
    async with open_store(configure(seed_demo_users=True)) as store:
        assert await store.profiles([12]) == [None]


@pytest.mark.parametrize(("before", "after"), [(NOW - YEAR, NOW), (NOW, NOW - YEAR)])
async def test_retention_empties_the_log_and_changes_no_profile(
    store: ProfileStore, before: datetime, after: datetime
) -> None:
    early = message("a", facts(1, "UTC", at(before)), post(1, 5, at(before)))
    late = message("b", post(1, 6, at(after)), action(1, 5, weight=4.0, when=at(after)))
    await store.ingest(early)
    assert await store.drop_events(micros(NOW), 7 * DAY_US) == 0  # nothing younger is known
    await store.ingest(late)
    known = await read(store, 1)
    assert await store.drop_events(micros(NOW), 7 * DAY_US) == (1 if before < after else 2)
    assert_same(await read(store, 1), known)
    assert (await store.ingest(early)).duplicate_count == 2
    later = at(NOW + timedelta(hours=1))
    await store.ingest(message("c", facts(1, "Asia/Tokyo", later)))
    assert (await read(store, 1)).posts.sum() == 2  # a recount needs no log


@pytest.mark.parametrize("now", [NOW + 25 * YEAR, NOW - 25 * YEAR])
async def test_a_clock_that_leapt_does_not_empty_the_log(
    store: ProfileStore, now: datetime
) -> None:
    await store.ingest(message("a", post(1, 5)))
    await store.ingest(message("b", post(1, 6, at(NOW))))
    assert await store.drop_events(micros(now), 30 * DAY_US) == 0


async def test_an_event_from_the_future_does_not_empty_the_log(store: ProfileStore) -> None:
    future = at(datetime(2099, 1, 1, tzinfo=UTC))
    await store.ingest(message("a", post(1, 5), post(1, 6, future)))
    assert await store.drop_events(micros(NOW), 30 * DAY_US) == 0


async def test_old_events_leave_the_log_when_the_server_starts(configure: Configure) -> None:
    async with open_store(configure()) as store:
        await store.ingest(message("a", post(1, 5, at(NOW - YEAR)), post(1, 6, at(NOW))))
    async with open_store(configure(retention_days=30), clock=lambda: NOW) as store:
        assert await store.drop_events(micros(NOW), 30 * DAY_US) == 0  # already done
        assert await store.drop_events(micros(NOW), -DAY_US) == 1


async def test_deletion_leaves_everybody_else_as_they_were(store: ProfileStore) -> None:
    await store.ingest(message("a", *(post(user, 1) for user in range(1, 6))))
    others = [1, 2, 4, 5]
    before = await store.profiles(others)
    assert await store.delete(3)
    for one, other in zip(before, await store.profiles(others), strict=True):
        assert_same(one, other)
    assert await store.profiles([3]) == [None]


async def test_deleting_twice_changes_nothing_more(store: ProfileStore) -> None:
    await store.ingest(message("a", post(3, 1)))
    assert await store.delete(3)
    assert not await store.delete(3)


async def test_a_repeated_message_does_not_bring_the_user_back(store: ProfileStore) -> None:
    again = message("a", facts(3, "UTC"), post(3, 1))
    await store.ingest(again)
    await store.delete(3)
    assert await store.ingest(again) == Stored(0, 2)
    assert await store.profiles([3]) == [None]


def micros(moment: datetime) -> int:
    return int(moment.timestamp() * 1e6)
