"""Simulated posts as a file of own events."""

import csv
from datetime import UTC, datetime, timedelta
from pathlib import Path

import numpy as np

from simulation.audience import Family
from simulation.exposure import draw_log
from simulation.feed import FeedTable, draw_feed

MONDAY = datetime(2026, 1, 5, tzinfo=UTC)
COLUMNS = (
    *("user_id", "post_time", "impressions", "like", "comment", "share", "follow"),
    *("quality_score", "follower_count", "content_type", "has_video", "caption"),
    *("tag_count", "note"),
)
EXPOSURE = ("position", "propensity")


def write_own_events(path: Path, creators: int, posts_each: int, family: Family, seed: int) -> Path:
    """Writes a CSV of simulated posts, spread over half a year, in no order."""
    rng = np.random.default_rng(seed)
    return _write(path, rng, draw_feed(rng, creators, posts_each, family))


def write_own_log(path: Path, creators: int, posts_each: int, seed: int) -> Path:
    """Writes a CSV of the posts that an earlier ranker showed, with place and propensity."""
    rng = np.random.default_rng(seed)
    log = draw_log(rng, draw_feed(rng, creators, posts_each, Family.A))
    return _write(path, rng, log.posts, np.stack([log.position, log.propensity], axis=1).tolist())


def _write(
    path: Path, rng: np.random.Generator, feed: FeedTable, shown: list[list[float]] | None = None
) -> Path:
    weeks = rng.integers(0, 26, len(feed.reach))
    with path.open("w", newline="", encoding="utf-8") as file:
        writer = csv.writer(file)
        writer.writerow((*COLUMNS, *(EXPOSURE if shown else ())))
        for row in rng.permutation(len(feed.reach)).tolist():
            hours = int(feed.hour_of_week[row]) + 168 * int(weeks[row])
            when = (MONDAY + timedelta(hours=hours)).isoformat().replace("+00:00", "Z")
            kind = "moment" if feed.is_moment[row] else "post"
            facts = (feed.quality_score[row], feed.follower_count[row], kind)
            rest = (
                int(feed.has_video[row]),
                "x" * min(5000, int(feed.caption_length[row])),
                feed.tag_count[row],
                "x",
            )
            counts = (int(feed.reach[row]), *feed.actions[row].tolist())
            cells = [f"creator {feed.creator[row]}", when, *counts, *facts, *rest]
            writer.writerow([*cells, *(shown[row] if shown else ())])
    return path
