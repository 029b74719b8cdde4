"""The hour of the week, counted one way wherever models learn and wherever they answer."""

from datetime import datetime
from zoneinfo import ZoneInfo

HOURS = 168


def hour_of_week(moment: datetime, zone: ZoneInfo) -> int:
    """Returns the local hour of week, 0 to 167, Monday 00:00 first, of an aware time."""
    return of_local(moment.astimezone(zone))


def of_local(local: datetime) -> int:
    """Returns the hour of week of a time on the clock of its zone."""
    return local.weekday() * 24 + local.hour
