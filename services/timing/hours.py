"""Hours of the week on real clocks: local, with summer time, and when each comes next."""

from collections.abc import Iterator, Set
from datetime import UTC, datetime, timedelta
from zoneinfo import ZoneInfo

from serving.hours import HOURS, of_local


def first_starts(
    not_before: datetime, not_after: datetime, zone: ZoneInfo, blocked: Set[int]
) -> dict[int, datetime]:
    """Returns when each permitted hour of the week first starts in a window, in UTC.

    Both bounds are aware and belong to the window; an hour in which the window opens starts with
    it. An hour that summer time skips is not there; one that it repeats starts the first time.
    """
    starts: dict[int, datetime] = {}
    for start, hour in _hours(not_before, not_after, zone):
        if hour not in blocked:
            starts.setdefault(hour, start)
        if len(starts) == HOURS - len(blocked):
            break
    return starts


def _hours(
    not_before: datetime, not_after: datetime, zone: ZoneInfo
) -> Iterator[tuple[datetime, int]]:
    start = not_before.astimezone(UTC)
    while start <= not_after:
        local = start.astimezone(zone)
        yield start, of_local(local)
        past = timedelta(minutes=local.minute, seconds=local.second, microseconds=local.microsecond)
        start += timedelta(hours=1) - past
