from datetime import UTC, datetime, timedelta
from zoneinfo import ZoneInfo

import pytest
from hypothesis import given
from hypothesis import strategies as st

from services.timing.hours import first_starts
from serving.hours import HOURS, hour_of_week

ZONES = st.sampled_from(
    ["UTC", "America/Sao_Paulo", "Asia/Kolkata", "Australia/Lord_Howe", "Europe/Berlin"]
).map(ZoneInfo)
MOMENTS = st.datetimes(datetime(2024, 1, 1), datetime(2030, 1, 1)).map(
    lambda moment: moment.replace(tzinfo=UTC)
)
BERLIN = ZoneInfo("Europe/Berlin")


def test_tuesday_evening_in_sao_paulo_is_hour_43() -> None:
    moment = datetime(2026, 5, 5, 22, 0, tzinfo=UTC)
    assert hour_of_week(moment, ZoneInfo("America/Sao_Paulo")) == 43


@given(
    opens=MOMENTS,
    zone=ZONES,
    length=st.integers(0, 400),
    blocked=st.frozensets(st.integers(0, 167)),
)
def test_starts_lie_in_the_window_and_in_their_hour(
    opens: datetime, zone: ZoneInfo, length: int, blocked: frozenset[int]
) -> None:
    closes = opens + timedelta(hours=length)
    starts = first_starts(opens, closes, zone, blocked)
    assert not blocked & starts.keys()
    for hour, start in starts.items():
        assert opens <= start <= closes
        assert hour_of_week(start, zone) == hour


@given(opens=MOMENTS, zone=ZONES)
def test_two_weeks_hold_every_hour_of_the_week(opens: datetime, zone: ZoneInfo) -> None:
    starts = first_starts(opens, opens + timedelta(days=14), zone, frozenset())
    assert sorted(starts) == list(range(HOURS))


def test_the_hour_in_which_the_window_opens_starts_with_it() -> None:
    opens = datetime(2026, 5, 5, 10, 20, tzinfo=UTC)
    starts = first_starts(opens, opens + timedelta(hours=1), ZoneInfo("UTC"), frozenset())
    assert starts == {34: opens, 35: datetime(2026, 5, 5, 11, 0, tzinfo=UTC)}


def test_the_hour_that_summer_time_skips_is_not_offered() -> None:
    opens = datetime(2026, 3, 28, 23, 0, tzinfo=UTC)  # midnight in Berlin before the change
    starts = first_starts(opens, opens + timedelta(hours=5), BERLIN, frozenset())
    assert sorted(hour - 144 for hour in starts) == [0, 1, 3, 4, 5, 6]


def test_the_hour_that_winter_time_repeats_starts_the_first_time() -> None:
    opens = datetime(2026, 10, 24, 22, 0, tzinfo=UTC)
    starts = first_starts(opens, opens + timedelta(hours=5), BERLIN, frozenset())
    assert starts[146] == datetime(2026, 10, 25, 0, 0, tzinfo=UTC)
    assert starts[147] == datetime(2026, 10, 25, 2, 0, tzinfo=UTC)


def test_half_hour_zones_have_their_own_hours() -> None:
    opens = datetime(2026, 5, 4, 0, 30, tzinfo=UTC)  # 06:00 in Kolkata
    starts = first_starts(opens, opens + timedelta(hours=1), ZoneInfo("Asia/Kolkata"), frozenset())
    assert sorted(starts) == [6, 7]


def test_a_window_of_no_length_holds_its_one_hour() -> None:
    opens = datetime(2026, 5, 4, 0, 30, tzinfo=UTC)
    assert first_starts(opens, opens, ZoneInfo("UTC"), frozenset()) == {0: opens}


@pytest.mark.parametrize("blocked", [frozenset(range(HOURS))])
def test_all_hours_blocked_leave_none(blocked: frozenset[int]) -> None:
    opens = datetime(2026, 5, 4, tzinfo=UTC)
    assert first_starts(opens, opens + timedelta(days=7), ZoneInfo("UTC"), blocked) == {}
