"""Profiles in SQLite: an append-only log of events and running aggregates beside it.

The aggregates are a function of the set of events, whatever their order and grouping: a post lies
in the cell of its local hour of week, its engagements lie in the same cell, and engagements that
come before their post wait in the post's row. Reading a profile touches one user row and at most
168 cells, never the log. A change of zone recounts that one user's cells from the posts.
"""

import sqlite3
from collections import defaultdict
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from fomofeed.profile.v1 import profile_service_pb2 as pb
from services.profile.erasure import delete_rows, drop_events, erase
from services.profile.events import ENGAGEMENTS, Action, Facts, Message, zone
from services.profile.schema import create, request_key
from serving.errors import InvalidRequestError, Violation

HOURS = 168
_Cells = dict[tuple[int, int], list[float]]
_Zones = Mapping[int, str]


@dataclass(frozen=True, slots=True)
class Profile:
    """A user's row and cells; `posts` and `engagements` are (168,) float64."""

    user_id: int
    user_name: str
    time_zone: str
    follower_count: int | None  # None until the user's facts came
    update_us: int
    post_count: int
    avg_engagement: float | None  # engagements per impression, 0 to 1; None without impressions
    posts: NDArray[np.float64]
    engagements: NDArray[np.float64]


@dataclass(frozen=True, slots=True)
class Stored:
    """How many events of a message were new, and how many had been stored before."""

    accepted_count: int
    duplicate_count: int


class Store:
    """One connection. Belongs to one thread at a time; one store may write while others read."""

    def __init__(self, path: Path, *, is_synced: bool = True) -> None:
        """Opens the database, creating file and tables when missing; raises `OSError`."""
        path.parent.mkdir(parents=True, exist_ok=True)
        self._connection = sqlite3.connect(path, isolation_level=None, check_same_thread=False)
        self._connection.execute("PRAGMA busy_timeout = 5000")
        self._connection.execute("PRAGMA journal_mode = WAL")
        self._connection.execute(f"PRAGMA synchronous = {'FULL' if is_synced else 'NORMAL'}")
        with self._transaction():
            create(self._connection)

    def close(self) -> None:
        self._connection.close()

    def is_empty(self) -> bool:
        """Says whether no user is stored."""
        return self._connection.execute("SELECT 1 FROM users LIMIT 1").fetchone() is None

    def profile(self, user_id: int) -> Profile | None:
        """Reads one profile; None for a user of whom no event came."""
        with self._snapshot():
            row = self._connection.execute(
                "SELECT user_name, time_zone, IIF(facts_us, follower_count, NULL), update_us,"
                " post_count, impressions, engagements FROM users WHERE user_id = ?",
                (user_id,),
            ).fetchone()
            if row is None:
                return None
            cells = np.zeros((2, HOURS))
            for hour, posts, engagements in self._connection.execute(
                "SELECT hour_of_week, posts, engagements FROM cells WHERE user_id = ?", (user_id,)
            ):
                cells[:, hour] = posts, engagements
        name, time_zone, followers, update_us, post_count, impressions, engaged = row
        rate = min(1.0, engaged / impressions) if impressions else None
        return Profile(
            user_id, name, time_zone, followers, update_us, post_count, rate, cells[0], cells[1]
        )

    def ingest(self, messages: Iterable[Message]) -> list[Stored]:
        """Stores messages in one transaction: all or, where one clashes, none.

        Raises `InvalidRequestError` when a `request_id` was used for other events.
        """
        with self._transaction():
            return [self._ingest(message) for message in messages]

    def delete(self, user_id: int) -> bool:
        """Deletes a user from tables and files; says whether the user was there.

        Raises `NotReadyError` when the rows are gone but not the bytes; calling again goes on.
        """
        with self._transaction():
            was_known = delete_rows(self._connection, user_id)
        self.erase()
        return was_known

    def erase(self) -> None:
        """Pays what a deletion that was cut short still owes; see `delete`."""
        erase(self._connection)

    def drop_events(self, now_us: int, kept_us: int) -> int:
        """Drops events from the log that are older than `kept_us`; returns how many.

        Age counts from `now_us` or the latest event, whichever is earlier: neither a clock that
        leapt ahead nor one event from the future empties the log. No profile changes.
        """
        with self._transaction():
            (latest_us,) = self._connection.execute("SELECT MAX(event_us) FROM events").fetchone()
            if latest_us is None:
                return 0
            return drop_events(self._connection, min(now_us, latest_us) - kept_us)

    def _ingest(self, message: Message) -> Stored:
        if self._is_repeated(message):
            return Stored(0, message.event_count)
        users = {(facts.user_id,) for facts in message.facts}
        users |= {(action.user_id,) for action in message.actions}
        self._connection.executemany("INSERT OR IGNORE INTO users (user_id) VALUES (?)", users)
        for facts in message.facts:
            self._set_facts(facts)
        located = {a.user_id for a in message.actions if a.kind != pb.EVENT_KIND_IMPRESSION}
        zones = {user_id: self._zone(user_id) for user_id in located}
        cells: _Cells = defaultdict(lambda: [0.0, 0.0])
        fresh = self._add_posts(message.actions, zones, cells)
        self._add_engagements(message.actions, zones, cells)
        self._add_cells(cells)
        self._add_totals(message)
        self._log(message)
        self._connection.execute(
            "INSERT INTO requests VALUES (?, ?, ?)",
            (request_key(message.request_id), message.digest, message.event_count),
        )
        repeated = sum(action.kind == pb.EVENT_KIND_POST for action in message.actions) - fresh
        return Stored(message.event_count - repeated, repeated)

    def _is_repeated(self, message: Message) -> bool:
        row = self._connection.execute(
            "SELECT digest FROM requests WHERE request_key = ?", (request_key(message.request_id),)
        ).fetchone()
        if row is not None and row[0] != message.digest:
            limit = "once for one content; it was used for other events"
            raise InvalidRequestError(Violation("request_id", repr(message.request_id), limit))
        return row is not None

    def _set_facts(self, facts: Facts) -> None:
        before, known_us = self._connection.execute(
            "SELECT time_zone, facts_us FROM users WHERE user_id = ?", (facts.user_id,)
        ).fetchone()
        if facts.event_us < known_us:
            return
        self._connection.execute(
            "UPDATE users SET user_name = ?, time_zone = ?, follower_count = ?, facts_us = ?"
            " WHERE user_id = ?",
            (
                facts.user_name,
                facts.time_zone,
                facts.follower_count,
                facts.event_us,
                facts.user_id,
            ),
        )
        if facts.time_zone != before:
            self._recount(facts.user_id)

    def _recount(self, user_id: int) -> None:
        local = self._zone(user_id)
        cells: _Cells = defaultdict(lambda: [0.0, 0.0])
        for post_us, engagements in self._connection.execute(
            "SELECT post_us, engagements FROM posts WHERE user_id = ? AND post_us IS NOT NULL",
            (user_id,),
        ):
            _add(cells, (user_id, hour_of_week(post_us, local)), 1.0, engagements)
        self._connection.execute("DELETE FROM cells WHERE user_id = ?", (user_id,))
        self._add_cells(cells)

    def _add_posts(self, actions: Sequence[Action], zones: _Zones, cells: _Cells) -> int:
        """Adds posts with the engagements that waited for them; returns how many were new."""
        fresh = 0
        for action in actions:
            if action.kind != pb.EVENT_KIND_POST:
                continue
            row = self._connection.execute(
                "INSERT INTO posts VALUES (?, ?, ?, 0) ON CONFLICT DO UPDATE"
                " SET post_us = excluded.post_us WHERE post_us IS NULL RETURNING engagements",
                (action.user_id, action.post_id, action.event_us),
            ).fetchone()
            if row is not None:
                fresh += 1
                cell = hour_of_week(action.event_us, zones[action.user_id])
                _add(cells, (action.user_id, cell), 1.0, row[0])
                self._connection.execute(
                    "UPDATE users SET post_count = post_count + 1 WHERE user_id = ?",
                    (action.user_id,),
                )
        return fresh

    def _add_engagements(self, actions: Sequence[Action], zones: _Zones, cells: _Cells) -> None:
        sums: dict[tuple[int, int], float] = defaultdict(float)
        for action in actions:
            if action.kind in ENGAGEMENTS:
                sums[action.user_id, action.post_id] += action.weight
        for (user_id, post_id), weight in sums.items():
            post_us = self._connection.execute(
                "INSERT INTO posts VALUES (?, ?, NULL, ?) ON CONFLICT DO UPDATE"
                " SET engagements = engagements + excluded.engagements RETURNING post_us",
                (user_id, post_id, weight),
            ).fetchone()[0]
            if post_us is not None:
                cell = hour_of_week(post_us, zones[user_id])
                _add(cells, (user_id, cell), 0.0, weight)

    def _zone(self, user_id: int) -> str:
        row = self._connection.execute(
            "SELECT time_zone FROM users WHERE user_id = ?", (user_id,)
        ).fetchone()
        return str(row[0])

    def _add_cells(self, cells: _Cells) -> None:
        self._connection.executemany(
            "INSERT INTO cells VALUES (?, ?, ?, ?) ON CONFLICT DO UPDATE SET"
            " posts = posts + excluded.posts, engagements = engagements + excluded.engagements",
            ((user, hour, posts, engaged) for (user, hour), (posts, engaged) in cells.items()),
        )

    def _add_totals(self, message: Message) -> None:
        totals: dict[int, list[float]] = defaultdict(lambda: [0.0, 0.0])
        latest: dict[int, int] = defaultdict(int)
        for action in message.actions:
            if action.kind == pb.EVENT_KIND_IMPRESSION:
                totals[action.user_id][0] += action.weight
            elif action.kind in ENGAGEMENTS:
                totals[action.user_id][1] += action.weight
            latest[action.user_id] = max(latest[action.user_id], action.event_us)
        for facts in message.facts:
            latest[facts.user_id] = max(latest[facts.user_id], facts.event_us)
        self._connection.executemany(
            "UPDATE users SET impressions = impressions + ?, engagements = engagements + ?,"
            " update_us = MAX(update_us, ?) WHERE user_id = ?",
            ((*totals[user_id], latest_us, user_id) for user_id, latest_us in latest.items()),
        )

    def _log(self, message: Message) -> None:
        rows: Iterator[tuple[int, int, int, int, float]] = (
            (action.user_id, action.kind, action.post_id, action.event_us, action.weight)
            for action in message.actions
        )
        self._connection.executemany("INSERT INTO events VALUES (?, ?, ?, ?, ?)", rows)

    @contextmanager
    def _transaction(self) -> Iterator[None]:
        self._connection.execute("BEGIN IMMEDIATE")
        try:
            yield
        except BaseException:
            self._connection.execute("ROLLBACK")
            raise
        self._connection.execute("COMMIT")

    @contextmanager
    def _snapshot(self) -> Iterator[None]:
        self._connection.execute("BEGIN")
        try:
            yield
        finally:
            self._connection.execute("COMMIT")


def hour_of_week(time_us: int, time_zone: str) -> int:
    """Returns the local hour of week, 0 to 167, Monday 00:00 first, of a time since 1970."""
    local = datetime.fromtimestamp(time_us // 1_000_000, zone(time_zone))
    return local.weekday() * 24 + local.hour


def _add(cells: _Cells, key: tuple[int, int], posts: float, engagements: float) -> None:
    cell = cells[key]
    cell[0] += posts
    cell[1] += engagements
