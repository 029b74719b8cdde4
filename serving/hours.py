"""The hour of the week, counted one way wherever models learn and wherever they answer."""

from datetime import datetime
from functools import lru_cache
from zoneinfo import ZoneInfo, ZoneInfoNotFoundError

HOURS = 168
MAX_ZONE_CHARS = 64  # the longest name there is has 32


def zone_named(name: str) -> ZoneInfo | None:
    """Returns the IANA zone, or None where there is none of that name."""
    return _zone(name) if len(name) <= MAX_ZONE_CHARS else None  # what is longer is not remembered


@lru_cache(maxsize=1024)
def _zone(name: str) -> ZoneInfo | None:
    try:
        return ZoneInfo(name)
    except (ZoneInfoNotFoundError, ValueError, OSError):
        return None


def hour_of_week(moment: datetime, zone: ZoneInfo) -> int:
    """Returns the local hour of week, 0 to 167, Monday 00:00 first, of an aware time."""
    return of_local(moment.astimezone(zone))


def of_local(local: datetime) -> int:
    """Returns the hour of week of a time on the clock of its zone."""
    return local.weekday() * 24 + local.hour
