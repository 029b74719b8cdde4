"""Fills a profile database with simulated traffic in bulk: what ingesting it would have left.

10 million events take about a minute instead of several: the aggregates are computed with NumPy and
each table is written once, in the order of its key. `is_as_ingested` holds the result against the
store's own, row by row, on a small number of events.
"""

import sqlite3
from collections.abc import Iterator
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory

import numpy as np
from numpy.typing import NDArray

from fomofeed.profile.v1 import profile_service_pb2 as pb
from services.profile.events import Action, Message
from services.profile.sqlite.store import Store

START_S = 1_767_225_600  # 2026-01-01
SPAN_S = 10_000_000
KINDS = np.array([pb.EVENT_KIND_POST, pb.EVENT_KIND_IMPRESSION, pb.EVENT_KIND_LIKE])
SHARES = (0.05, 0.75, 0.2)
POSTS_A_USER = 30  # numbers of posts, whether told or only liked
EVENTS_A_MESSAGE = 1000
CHUNK = 500_000  # rows that are Python objects at one time
Ints = NDArray[np.int64]


@dataclass(frozen=True, slots=True)
class Traffic:
    """Events of many users, each column (events,); all of weight 1, in the order in which told."""

    user_ids: Ints
    kinds: Ints
    post_ids: Ints
    times_us: Ints

    def __len__(self) -> int:
        return len(self.kinds)

    def rows(self) -> Iterator[tuple[int, int, int, int, float]]:
        """Yields the rows of the log."""
        for start in range(0, len(self), CHUNK):
            part = slice(start, start + CHUNK)
            columns = (self.user_ids, self.kinds, self.post_ids, self.times_us)
            lists = [column[part].tolist() for column in columns]
            yield from zip(*lists, [1.0] * len(lists[0]), strict=True)

    def messages(self, name: str = "message", size: int = EVENTS_A_MESSAGE) -> list[Message]:
        """Returns the same events as messages."""
        rows = [Action(*row) for row in self.rows()]
        groups = [rows[k : k + size] for k in range(0, len(rows), size)]
        return [
            Message(f"{name}-{k}", k.to_bytes(32, "big"), (), tuple(group))
            for k, group in enumerate(groups)
        ]


def draw(rng: np.random.Generator, users: int, events: int) -> Traffic:
    """Draws events; each user has about as many as any other."""
    times_s = START_S + rng.integers(0, SPAN_S, events)
    return Traffic(
        user_ids=rng.integers(1, users + 1, events),
        kinds=rng.choice(KINDS, events, p=SHARES).astype(np.int64),
        post_ids=rng.integers(1, POSTS_A_USER, events),
        times_us=times_s * 1_000_000,
    )


def fill(path: Path, traffic: Traffic) -> None:
    """Writes a new database as ingesting the traffic would have left it."""
    with closing(Store(path)) as store:  # makes the tables
        store.erase()  # while there is nothing to write anew, or the first server would
    with closing(sqlite3.connect(path, isolation_level=None)) as connection:
        connection.execute("PRAGMA synchronous = OFF")
        connection.execute("BEGIN")
        connection.executemany("INSERT INTO events VALUES (?, ?, ?, ?, ?)", traffic.rows())
        for statement, columns in _aggregates(traffic):
            for start in range(0, len(columns[0]), CHUNK):
                rows = zip(
                    *(column[start : start + CHUNK].tolist() for column in columns), strict=True
                )
                connection.executemany(statement, rows)
        connection.execute("COMMIT")
        connection.execute("PRAGMA wal_checkpoint(TRUNCATE)")


def is_as_ingested(users: int = 200, events: int = 20_000) -> bool:
    """Says whether `fill` leaves the tables that the store leaves."""
    traffic = draw(np.random.default_rng(7), users, events)
    with TemporaryDirectory() as folder:
        bulk, slow = Path(folder, "bulk.sqlite"), Path(folder, "slow.sqlite")
        fill(bulk, traffic)
        with closing(Store(slow, is_synced=False)) as store:
            store.ingest(traffic.messages())
        return _tables(bulk) == _tables(slow)


def _aggregates(traffic: Traffic) -> Iterator[tuple[str, list[NDArray[np.generic]]]]:
    """Yields statements and columns for the posts, the cells and the users, in that order."""
    keys = traffic.user_ids * POSTS_A_USER + traffic.post_ids
    is_post, is_like = (traffic.kinds == kind for kind in (KINDS[0], KINDS[2]))
    told, first = np.unique(keys[is_post], return_index=True)
    told_us = traffic.times_us[is_post][first]
    liked, likes = np.unique(keys[is_like], return_counts=True)
    all_keys = np.union1d(told, liked)
    gained = np.zeros(len(all_keys))
    gained[np.searchsorted(all_keys, liked)] = likes
    post_us = np.full(len(all_keys), None, dtype=object)
    post_us[np.searchsorted(all_keys, told)] = told_us
    users, posts = np.divmod(all_keys, POSTS_A_USER)
    yield "INSERT INTO posts VALUES (?, ?, ?, ?)", [users, posts, post_us, gained]

    hours = (told_us // 3_600_000_000 + 72) % 168  # 1970 began on a Thursday
    cells, cell_of = np.unique((told // POSTS_A_USER) * 168 + hours, return_inverse=True)
    counts = np.bincount(cell_of).astype(float)
    sums = np.bincount(cell_of, gained[np.searchsorted(all_keys, told)])
    yield "INSERT INTO cells VALUES (?, ?, ?, ?)", [*np.divmod(cells, 168), counts, sums]

    size = int(traffic.user_ids.max()) + 1
    latest = np.zeros(size, dtype=np.int64)
    np.maximum.at(latest, traffic.user_ids, traffic.times_us)
    seen = np.flatnonzero(latest)
    shown, likes_of = (
        np.bincount(traffic.user_ids[traffic.kinds == kind], minlength=size).astype(float)
        for kind in KINDS[1:]
    )
    posts_of = np.bincount(told // POSTS_A_USER, minlength=size)
    yield (
        "INSERT INTO users (user_id, update_us, post_count, impressions, engagements)"
        " VALUES (?, ?, ?, ?, ?)",
        [seen, latest[seen], posts_of[seen], shown[seen], likes_of[seen]],
    )


def _tables(path: Path) -> list[list[tuple[object, ...]]]:
    with closing(sqlite3.connect(path)) as connection:
        return [
            connection.execute(f"SELECT * FROM {table} ORDER BY 1, 2, 3, 4").fetchall()
            for table in ("users", "cells", "posts", "events")
        ]
