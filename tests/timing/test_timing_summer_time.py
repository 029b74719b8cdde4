"""Clocks that leap an hour, in both directions, through the whole service."""

from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from fomofeed.timing.v1 import timing_service_pb2 as pb
from tests.timing.conftest import Stub

SUNDAY = 6 * 24
FORWARD = datetime(2026, 3, 29, tzinfo=UTC)  # Berlin: 02:00 becomes 03:00 at 01:00 UTC
BACK = datetime(2026, 10, 25, tzinfo=UTC)  # Berlin: 03:00 becomes 02:00 at 01:00 UTC


def request(opens: datetime, closes: datetime, **fields: Any) -> pb.SuggestPostingTimesRequest:
    asked = pb.SuggestPostingTimesRequest(time_zone="Europe/Berlin", max_slots=168, **fields)
    asked.not_before.FromDatetime(opens)
    asked.not_after.FromDatetime(closes)
    return asked


async def starts(timing: Stub, opens: datetime, closes: datetime) -> dict[int, datetime]:
    answer = await timing.SuggestPostingTimes(request(opens, closes))
    return {
        slot.hour_of_week - SUNDAY: slot.start_time.ToDatetime(tzinfo=UTC) for slot in answer.slots
    }


async def test_the_hour_that_is_skipped_is_not_suggested(timing: Stub) -> None:
    found = await starts(timing, FORWARD - timedelta(hours=1), FORWARD + timedelta(hours=3))
    assert sorted(found) == [0, 1, 3, 4, 5]
    assert found[3] - found[1] == timedelta(hours=1)


async def test_the_hour_that_comes_twice_is_suggested_once_and_the_first_time(timing: Stub) -> None:
    found = await starts(timing, BACK - timedelta(hours=2), BACK + timedelta(hours=3))
    assert sorted(found) == [0, 1, 2, 3, 4]
    assert (found[2], found[3]) == (BACK, BACK + timedelta(hours=2))


@pytest.mark.parametrize(
    ("post_times", "hours"),
    [
        ([BACK + timedelta(minutes=30), BACK + timedelta(minutes=90)], [2, 2]),
        ([FORWARD + timedelta(minutes=59), FORWARD + timedelta(minutes=60)], [1, 3]),
    ],
)
async def test_outcomes_around_the_leap_count_in_the_hour_that_the_clock_showed(
    timing: Stub, post_times: list[datetime], hours: list[int]
) -> None:
    cells: dict[str, Any] = {
        "posts_by_hour": [0.0] * 168,
        "engagements_by_hour": [0.0] * 168,
    }
    for number, (when, hour) in enumerate(zip(post_times, hours, strict=True)):
        recorded = pb.RecordPostOutcomeRequest(
            user_id=5, engagements=7.0 + number, request_id=str(number)
        )
        recorded.post_time.FromDatetime(when)
        await timing.RecordPostOutcome(recorded)
        cells["posts_by_hour"][SUNDAY + hour] += 1.0
        cells["engagements_by_hour"][SUNDAY + hour] += 7.0 + number
    window = (BACK, BACK + timedelta(days=7))
    by_outcomes = await timing.SuggestPostingTimes(request(*window, user_id=5))
    by_cells = await timing.SuggestPostingTimes(request(*window, user_id=6, **cells))
    assert by_outcomes.post_count == 2
    assert by_outcomes == by_cells
