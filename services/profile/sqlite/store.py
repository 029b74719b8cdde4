"""Profiles in SQLite: an append-only log of events and running aggregates beside it.

Reading a profile touches one user row and at most 168 cells, never the log.
"""

import json
import sqlite3
from collections.abc import Iterable
from pathlib import Path

import numpy as np

from services.profile import statements as sql
from services.profile.changes import (
    Changes,
    KnownPosts,
    KnownUsers,
    Writes,
    changes_of,
    count_anew,
    plan,
)
from services.profile.events import Message
from services.profile.profiles import Profile, Stored, profile_of
from services.profile.sqlite.erasure import delete_rows, erase
from services.profile.sqlite.schema import create
from serving.migrations import request_key
from serving.sqlite import transaction, translated

# A user's row and, as text, all cells. Each row of a result is another turn for a writer on another
# thread, and 40 of them made a read wait for 30 ms. 17 digits give a double back to the last bit.
READ_PROFILE = (
    f"SELECT {sql.USER_COLUMNS}, (SELECT group_concat("
    "printf('%d %!.17g %!.17g', hour_of_week, posts, engagements), ' ')"
    " FROM cells WHERE cells.user_id = users.user_id) FROM users WHERE user_id = ?1"
)
# `CROSS JOIN` makes SQLite look each of the keys up, whatever it thinks of their number.
_KNOWN_USERS = (
    "SELECT user_id, time_zone, facts_us FROM json_each(?1) CROSS JOIN users ON user_id = value"
)
_KNOWN_POSTS = (
    "SELECT user_id, post_id, post_us, engagements FROM json_each(?1) CROSS JOIN posts"
    " ON user_id = json_extract(value, '$[0]') AND post_id = json_extract(value, '$[1]')"
)
_ADD_EVENTS = (
    "INSERT INTO events (user_id, kind, post_id, event_us, weight) VALUES (?1, ?2, ?3, ?4, ?5)"
)

# A message of a thousand users changes a page for each. SQLite's own limits, 2 MiB and 1,000 pages,
# made it read most of them again, and write them to the file after nearly every message.
CACHE_KIB = 65_536
PATIENCE_MS = 5_000  # for a lock that another connection holds
LOG_PAGES = 8_000  # of 4 KiB in the write-ahead log; then they go to the file, by the writer


class Store:
    """One connection. Belongs to one thread at a time; one store may write while others read."""

    def __init__(
        self, path: Path, *, is_synced: bool = True, patience_ms: int = PATIENCE_MS
    ) -> None:
        """Opens the database, creating file and tables when missing; raises `OSError`.

        `patience_ms` is how long it waits for locks once it is open.
        """
        path.parent.mkdir(parents=True, exist_ok=True)
        self._connection = sqlite3.connect(path, isolation_level=None, check_same_thread=False)
        self._connection.execute(f"PRAGMA busy_timeout = {PATIENCE_MS}")
        self._connection.execute("PRAGMA journal_mode = WAL")
        self._connection.execute(f"PRAGMA synchronous = {'FULL' if is_synced else 'NORMAL'}")
        self._connection.execute(f"PRAGMA cache_size = -{CACHE_KIB}")
        self._connection.execute(f"PRAGMA wal_autocheckpoint = {LOG_PAGES}")
        with transaction(self._connection):
            create(self._connection)
        self._connection.execute(f"PRAGMA busy_timeout = {patience_ms}")

    def close(self) -> None:
        self._connection.close()

    def is_empty(self) -> bool:
        """Says whether no user is stored."""
        return self._connection.execute(sql.ANY_USER).fetchone() is None

    def profile(self, user_id: int) -> Profile | None:
        """Reads one profile; None for a user of whom no event came."""
        with translated():
            row = self._connection.execute(READ_PROFILE, (user_id,)).fetchone()
        if row is None:
            return None
        *user, cells = row
        return profile_of(user, np.fromstring(cells or "", sep=" ").reshape(-1, 3))

    def ingest(self, messages: Iterable[Message]) -> list[Stored]:
        """Stores messages in one transaction: all or, where one clashes, none.

        Raises `InvalidRequestError` when a `request_id` was used for other events.
        """
        with transaction(self._connection):
            return [self._ingest(message) for message in messages]

    def delete(self, user_id: int) -> bool:
        """Deletes a user from tables and files, as `ProfileStore.delete`."""
        with transaction(self._connection):
            was_known = delete_rows(self._connection, user_id)
        self.erase()
        return was_known

    def erase(self) -> None:
        """Pays what a deletion that was cut short still owes; see `delete`."""
        erase(self._connection)

    def drop_events(self, now_us: int, kept_us: int) -> int:
        """Drops old events from the log, as `ProfileStore.drop_events`."""
        with transaction(self._connection):
            (latest_us,) = self._connection.execute(sql.LATEST_EVENT).fetchone()
            if latest_us is None:
                return 0
            before_us = min(now_us, latest_us) - kept_us
            return self._connection.execute(sql.DROP_EVENTS, (before_us,)).rowcount

    def _ingest(self, message: Message) -> Stored:
        if self._is_repeated(message):
            return Stored(0, message.event_count)
        changes = changes_of(message)
        self._connection.executemany(sql.ADD_TOTALS, changes.totals)
        writes = plan(changes, self._known_users(changes), self._known_posts(changes))
        self._write(writes)
        self._connection.executemany(_ADD_EVENTS, message.actions)
        return writes.stored

    def _is_repeated(self, message: Message) -> bool:
        key = request_key(message.request_id)
        claim = (key, message.digest, message.event_count)
        if self._connection.execute(sql.CLAIM_REQUEST, claim).fetchall():
            return False
        (digest,) = self._connection.execute(sql.READ_DIGEST, (key,)).fetchone()
        if digest != message.digest:
            raise message.clash()
        return True

    def _known_users(self, changes: Changes) -> KnownUsers:
        users = json.dumps(changes.user_ids())
        return {row[0]: row[1:] for row in self._connection.execute(_KNOWN_USERS, (users,))}

    def _known_posts(self, changes: Changes) -> KnownPosts:
        keys = json.dumps(changes.post_keys())
        return {row[:2]: row[2:] for row in self._connection.execute(_KNOWN_POSTS, (keys,))}

    def _write(self, writes: Writes) -> None:
        for statement, rows in (
            (sql.SET_FACTS, writes.facts),
            (sql.ADD_POSTS, writes.posts),
            (sql.COUNT_POSTS, writes.post_counts),
            (sql.ADD_CELLS, writes.cells),
        ):
            self._connection.executemany(statement, rows)
        for user_id, time_zone in writes.moved.items():
            posts = self._connection.execute(sql.READ_POSTS, (user_id,)).fetchall()
            self._connection.execute(sql.CLEAR_CELLS, (user_id,))
            self._connection.executemany(sql.ADD_CELLS, count_anew(user_id, time_zone, posts))
