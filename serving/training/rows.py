"""One post of a file: its cells as values, each within its range."""

import math
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from zoneinfo import ZoneInfo, ZoneInfoNotFoundError

from serving.form import FORM, MAX_CAPTION_CHARS, form_of
from serving.hours import hour_of_week
from serving.training.cells import Cells

ACTIONS = ("like", "comment", "share", "follow")
UNKNOWN = -1.0  # below the range of every input
MAX_COUNT = 1e12
NUMBERS: Mapping[str, tuple[float, float]] = {
    "quality_score": (0.0, 10.0),
    "follower_count": (0.0, 1e12),
    "avg_engagement": (0.0, 1.0),
    "caption_length": (0.0, float(MAX_CAPTION_CHARS)),
    "tag_count": (0.0, 100.0),
    "link_count": (0.0, float(MAX_CAPTION_CHARS)),
    "mention_count": (0.0, float(MAX_CAPTION_CHARS)),
    "caps_share": (0.0, 1.0),
}
EXPOSURE: Mapping[str, tuple[float, float]] = {"position": (1.0, 1e6), "propensity": (1e-9, 1.0)}
_NUMERIC = ("whole number", "number")
# Every column that is read, and the kinds of value that it may hold in a file that has types.
KNOWN: Mapping[str, tuple[str, ...]] = {
    "user_id": ("text", "whole number"),
    "post_time": ("time", "text"),
    "time_zone": ("text",),
    "content_type": ("text",),
    "caption": ("text",),
    **dict.fromkeys(("has_video", "is_reply"), ("truth", "whole number")),
    **dict.fromkeys((*ACTIONS, "engagements", "impressions", *NUMBERS, *EXPOSURE), _NUMERIC),
}
_TRUE, _FALSE = ("1", "true", "yes"), ("", "0", "false", "no")


@dataclass(frozen=True, slots=True)
class Row:
    """A post; what is not known is `UNKNOWN` in `is_reply` and `numbers`, NaN elsewhere."""

    user_id: str
    post_us: int  # microseconds since 1970
    hour_of_week: int
    reach: float
    actions: tuple[int, ...]
    is_moment: bool
    has_video: bool
    is_reply: float  # 0 or 1
    numbers: tuple[float, ...]  # in the order of `NUMBERS`
    exposure: tuple[float, ...]  # in the order of `EXPOSURE`
    caption: int  # a hash: posts that differ in their text alone are two


def read_row(cells: Cells) -> Row:
    """Reads a row; raises `ValueError` naming column, value and limit."""
    if not _cell(cells, "user_id"):
        raise ValueError("user_id is empty")
    moment = _moment(_cell(cells, "post_time"))
    zone = _zone(_cell(cells, "time_zone") or "UTC")
    whole = round(_number(cells, "engagements", (0.0, MAX_COUNT), 0.0))
    actions = [round(_number(cells, action, (0.0, MAX_COUNT), 0.0)) for action in ACTIONS]
    return Row(
        user_id=_cell(cells, "user_id"),
        post_us=int(moment.timestamp() * 1e6),
        hour_of_week=hour_of_week(moment, zone),
        reach=_number(cells, "impressions", (0.0, MAX_COUNT), math.nan),
        actions=tuple(actions) if any(actions) else (whole, 0, 0, 0),
        is_moment=_cell(cells, "content_type") == "moment",
        has_video=_flag(cells, "has_video"),
        is_reply=float(_flag(cells, "is_reply")) if _cell(cells, "is_reply") else UNKNOWN,
        numbers=tuple(_numbers(cells).values()),
        exposure=tuple(_number(cells, n, limits, math.nan) for n, limits in EXPOSURE.items()),
        caption=hash(cells.get("caption")),
    )


def _numbers(cells: Cells) -> dict[str, float]:
    """Reads all of `NUMBERS`; where the file has captions, what they tell is counted in them."""
    numbers = {n: _number(cells, n, limits, UNKNOWN) for n, limits in NUMBERS.items()}
    caption = cells.get("caption")
    if caption is None:
        return numbers
    if len(caption) > MAX_CAPTION_CHARS:
        raise ValueError(f"caption is {len(caption):,} characters, at most {MAX_CAPTION_CHARS:,}")
    form = form_of(caption)
    counted = {name: float(getattr(form, name)) for name in FORM}
    return numbers | {"caption_length": float(len(caption))} | counted


def _cell(cells: Cells, name: str) -> str:
    return cells.get(name, "").strip()


def _number(cells: Cells, name: str, limits: tuple[float, float], missing: float) -> float:
    text = _cell(cells, name)
    if not text:
        return missing
    low, high = limits
    try:
        value = float(text)
    except ValueError:
        value = math.nan
    if not low <= value <= high:
        raise ValueError(f"{name} is {text!r}, {low:g} to {high:g}")
    return value


def _flag(cells: Cells, name: str) -> bool:
    text = _cell(cells, name).lower()
    if text not in (*_TRUE, *_FALSE):
        raise ValueError(f"{name} is {text!r}, one of {', '.join((*_TRUE, *_FALSE[1:]))}")
    return text in _TRUE


def _moment(text: str) -> datetime:
    try:
        moment = datetime.fromisoformat(text)
    except ValueError:
        raise ValueError(f"post_time is {text!r}, RFC 3339 such as 2026-05-05T19:40:00Z") from None
    if moment.tzinfo is None:
        raise ValueError(f"post_time is {text!r}, with Z or an offset such as -03:00")
    if not 2000 <= moment.year < 2100:
        raise ValueError(f"post_time is {text!r}, years 2000 to 2100")
    return moment


def _zone(name: str) -> ZoneInfo:
    try:
        return ZoneInfo(name)
    except (ZoneInfoNotFoundError, ValueError, OSError):
        raise ValueError(f"time_zone is {name!r}, an IANA name such as Europe/Rome") from None
