"""A creator's own posts with what came of each, from a file: what models are trained on.

One row a post, CSV with a header or Parquet, columns in any order, unknown columns ignored:

    user_id, post_time                  required; the time as RFC 3339, such as 2026-05-05T19:40:00Z
    time_zone                           IANA name in which hours are counted; UTC without
    impressions                         how many saw it; the ranker needs it
    like, comment, share, follow        how many did; or `engagements`, all kinds together
    quality_score, follower_count,      what was known before it went out; an empty cell is unknown
    avg_engagement, content_type,
    has_video, tag_count, is_reply
    caption                             its length, links, mentions and capitals are what is read
    caption_length, link_count,         the same as numbers, from a file without captions
    mention_count, caps_share
    position, propensity                where in the feed it was seen, 1 = first, and how likely it
                                        was to be shown: the ranker then learns apart from both

A row that repeats another in all that is read is dropped; one that differs is a post of its own.
"""

import hashlib
from collections.abc import Callable, Sequence
from dataclasses import dataclass, fields
from datetime import UTC, datetime
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from serving.training.cells import EventsError, Sheet, open_sheet
from serving.training.rows import ACTIONS, EXPOSURE, KNOWN, NUMBERS, Row, read_row

PROGRESS_ROWS = 20_000  # between two lines that say how far it is


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
    is_reply: NDArray[np.float64]  # 0, 1 or `UNKNOWN`
    link_count: NDArray[np.float64]  # or `UNKNOWN`, like the next two
    mention_count: NDArray[np.float64]
    caps_share: NDArray[np.float64]  # of the letters, 0 to 1
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


def read_events(path: Path, say: Callable[[str], None] | None = None) -> EventsFile:
    """Reads a file; raises `EventsError` for the first row that is not as it must be.

    `say` is told now and then how far it is, and what was dropped.
    """
    with open_sheet(path, KNOWN) as sheet:
        _check_columns(path.name, sheet.columns)
        rows = _read_rows(path.name, sheet, say or _nobody)
    with path.open("rb") as file:
        digest = hashlib.file_digest(file, "sha256").hexdigest()
    return EventsFile(path.name, digest, _table(rows))


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


def _nobody(text: str) -> None:
    """Nobody listens."""


def _check_columns(name: str, columns: Sequence[str]) -> None:
    found = set(columns)
    missing = [column for column in ("user_id", "post_time") if column not in found]
    if missing:
        raise EventsError(f"{name} has no column {' and no column '.join(missing)}")
    if not found & {*ACTIONS, "engagements"}:
        raise EventsError(f"{name} has none of the columns {', '.join(ACTIONS)}, engagements")


def _read_rows(name: str, sheet: Sheet, say: Callable[[str], None]) -> list[Row]:
    rows: dict[Row, None] = {}
    count = 0
    for count, (place, cells) in enumerate(sheet.rows, start=1):
        try:
            rows[read_row(cells)] = None
        except ValueError as error:
            raise EventsError(f"{name} {place}: {error}") from None
        if not count % PROGRESS_ROWS:
            say(f"read {count:,} rows …")
    if not rows:
        raise EventsError(f"{name} has no posts")
    if count > len(rows):
        say(f"dropped {count - len(rows):,} rows that repeat another")
    return list(rows)


def _table(rows: list[Row]) -> OwnPosts:
    rows = sorted(rows, key=lambda row: row.post_us)
    known = {
        user_id: number for number, user_id in enumerate(dict.fromkeys(r.user_id for r in rows))
    }
    numbers = dict(zip(NUMBERS, np.array([row.numbers for row in rows]).T, strict=True))
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
        is_reply=np.array([row.is_reply for row in rows], dtype=np.float64),
        **numbers,
        **dict(zip(EXPOSURE, np.array([row.exposure for row in rows]).T, strict=True)),
    )
