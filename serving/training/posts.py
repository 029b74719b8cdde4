"""A creator's own posts with what came of each, from a CSV file: what models are trained on.

One line a post, a header first, columns in any order, unknown columns ignored:

    user_id, post_time                  required; the time as RFC 3339, such as 2026-05-05T19:40:00Z
    time_zone                           IANA name in which hours are counted; UTC without
    impressions                         how many saw it; the ranker needs it
    like, comment, share, follow        how many did; or `engagements`, all kinds together
    quality_score, follower_count,      what was known before it went out; an empty cell is unknown
    avg_engagement, content_type,
    has_video, caption_length, tag_count
    position, propensity                where in the feed it was seen, 1 = first, and how likely it
                                        was to be shown: the ranker then learns apart from both

CSV alone: a reader of Parquet is a dependency larger than the rest of the runtime together
(pyarrow), for a file that any table program turns into CSV.
"""

import csv
import hashlib
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, fields
from datetime import UTC, datetime
from pathlib import Path
from zoneinfo import ZoneInfo, ZoneInfoNotFoundError

import numpy as np
from numpy.typing import NDArray

from serving.hours import hour_of_week

ACTIONS = ("like", "comment", "share", "follow")
UNKNOWN = -1.0  # below the range of every input
MAX_COUNT = 1e12
_RANGES: Mapping[str, tuple[float, float]] = {
    "quality_score": (0.0, 10.0),
    "follower_count": (0.0, 1e12),
    "avg_engagement": (0.0, 1.0),
    "caption_length": (0.0, 5000.0),
    "tag_count": (0.0, 100.0),
}
_EXPOSURE: Mapping[str, tuple[float, float]] = {"position": (1.0, 1e6), "propensity": (1e-9, 1.0)}
_TRUE, _FALSE = ("1", "true", "yes"), ("", "0", "false", "no")


class EventsError(Exception):
    """The file is not what training needs; the text names file, line, column, value and limit."""


@dataclass(frozen=True, slots=True)
class OwnPosts:
    """Posts in the order of time, as columns of one length; `actions` is (posts, 4)."""

    creator: NDArray[np.int64]  # numbers the creators from 0
    post_us: NDArray[np.int64]  # microseconds since 1970
    hour_of_week: NDArray[np.int64]  # 0 to 167, local, Monday 00:00 first
    reach: NDArray[np.float64]  # impressions; NaN where the file has none
    actions: NDArray[np.int64]
    quality_score: NDArray[np.float64]  # 0 to 10, or `UNKNOWN`, like the next two
    follower_count: NDArray[np.float64]
    avg_engagement: NDArray[np.float64]
    is_moment: NDArray[np.bool_]
    has_video: NDArray[np.bool_]
    caption_length: NDArray[np.float64]
    tag_count: NDArray[np.float64]
    position: NDArray[np.float64]  # mean place where it was seen, 1 = first; NaN where not known
    propensity: NDArray[np.float64]  # of being shown at all, above 0 to 1; NaN likewise

    def __len__(self) -> int:
        return len(self.creator)

    def only(self, kept: NDArray[np.bool_] | NDArray[np.int64] | slice) -> "OwnPosts":
        """Returns some of the posts, in their order; creators keep their numbers."""
        return OwnPosts(*(getattr(self, field.name)[kept] for field in fields(self)))

    def period(self) -> str:
        """Says from when to when, in UTC."""
        first, last = (
            datetime.fromtimestamp(us / 1e6, UTC).date().isoformat() for us in self.post_us[[0, -1]]
        )
        return f"{first} to {last}"


@dataclass(frozen=True, slots=True)
class EventsFile:
    """A file that was read."""

    name: str
    sha256: str
    posts: OwnPosts


def read_events(path: Path) -> EventsFile:
    """Reads a file; raises `EventsError` for the first line that is not as it must be."""
    try:
        content = path.read_bytes()
        lines = content.decode("utf-8-sig").splitlines()
    except OSError as error:
        raise EventsError(f"cannot read {path}: {error.strerror}") from None
    except UnicodeDecodeError:
        raise EventsError(f"{path.name} is not UTF-8 text; only CSV is read") from None
    reader = csv.DictReader(lines)
    _check_header(path.name, reader.fieldnames or ())
    rows = []
    for row in reader:
        try:
            rows.append(_read_row(row))
        except ValueError as error:
            raise EventsError(f"{path.name} line {reader.line_num}: {error}") from None
    if not rows:
        raise EventsError(f"{path.name} has no posts")
    return EventsFile(path.name, hashlib.sha256(content).hexdigest(), _table(rows))


def split_by_time(posts: OwnPosts, later_share: float) -> tuple[OwnPosts, OwnPosts]:
    """Splits into earlier and later posts: nothing later helps to foretell what was before."""
    cut = round(len(posts) * (1.0 - later_share))
    return posts.only(slice(None, cut)), posts.only(slice(cut, None))


def trained_on(events: EventsFile) -> str:
    """Says on what, so that nobody takes it for something else."""
    posts = events.posts
    creators = len(set(posts.creator.tolist()))
    return (
        f"own events: {len(posts):,} posts of {creators:,} creators, {posts.period()}, "
        f"{events.name} (SHA-256 {events.sha256[:12]})"
    )


@dataclass(frozen=True, slots=True)
class _Row:
    user_id: str
    post_us: int
    hour_of_week: int
    reach: float
    actions: tuple[int, ...]
    is_moment: bool
    has_video: bool
    numbers: Mapping[str, float]
    exposure: Mapping[str, float]


def _check_header(name: str, columns: Sequence[str]) -> None:
    found = set(columns)
    missing = [column for column in ("user_id", "post_time") if column not in found]
    if missing:
        raise EventsError(f"{name} has no column {' and no column '.join(missing)}")
    if not found & {*ACTIONS, "engagements"}:
        raise EventsError(f"{name} has none of the columns {', '.join(ACTIONS)}, engagements")


def _read_row(row: Mapping[str, str | None]) -> _Row:
    if not _cell(row, "user_id"):
        raise ValueError("user_id is empty")
    moment = _moment(_cell(row, "post_time"))
    zone = _zone(_cell(row, "time_zone") or "UTC")
    whole = round(_number(row, "engagements", 0.0, MAX_COUNT, 0.0))
    actions = [round(_number(row, action, 0.0, MAX_COUNT, 0.0)) for action in ACTIONS]
    return _Row(
        user_id=_cell(row, "user_id"),
        post_us=int(moment.timestamp() * 1e6),
        hour_of_week=hour_of_week(moment, zone),
        reach=_number(row, "impressions", 0.0, MAX_COUNT, math.nan),
        actions=tuple(actions) if any(actions) else (whole, 0, 0, 0),
        is_moment=_cell(row, "content_type") == "moment",
        has_video=_flag(row, "has_video"),
        numbers={name: _number(row, name, *limits, UNKNOWN) for name, limits in _RANGES.items()},
        exposure={
            name: _number(row, name, *limits, math.nan) for name, limits in _EXPOSURE.items()
        },
    )


def _table(rows: list[_Row]) -> OwnPosts:
    rows = sorted(rows, key=lambda row: row.post_us)
    known = {
        user_id: number for number, user_id in enumerate(dict.fromkeys(r.user_id for r in rows))
    }
    numbers = {name: np.array([row.numbers[name] for row in rows]) for name in _RANGES}
    for name in ("caption_length", "tag_count"):  # never unknown to the ranker: nothing is 0
        numbers[name] = np.maximum(numbers[name], 0.0)
    return OwnPosts(
        creator=np.array([known[row.user_id] for row in rows], dtype=np.int64),
        post_us=np.array([row.post_us for row in rows], dtype=np.int64),
        hour_of_week=np.array([row.hour_of_week for row in rows], dtype=np.int64),
        reach=np.array([row.reach for row in rows], dtype=np.float64),
        actions=np.array([row.actions for row in rows], dtype=np.int64),
        is_moment=np.array([row.is_moment for row in rows], dtype=np.bool_),
        has_video=np.array([row.has_video for row in rows], dtype=np.bool_),
        **numbers,
        **{name: np.array([row.exposure[name] for row in rows]) for name in _EXPOSURE},
    )


def _cell(row: Mapping[str, str | None], name: str) -> str:
    return (row.get(name) or "").strip()


def _number(
    row: Mapping[str, str | None], name: str, low: float, high: float, missing: float
) -> float:
    text = _cell(row, name)
    if not text:
        return missing
    try:
        value = float(text)
    except ValueError:
        value = math.nan
    if not low <= value <= high:
        raise ValueError(f"{name} is {text!r}, {low:g} to {high:g}")
    return value


def _flag(row: Mapping[str, str | None], name: str) -> bool:
    text = _cell(row, name).lower()
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
