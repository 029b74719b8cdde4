"""The tables of the profile database, and their version in `PRAGMA user_version`."""

import hashlib
import sqlite3

SCHEMA_VERSION = 2
_TABLES = """
CREATE TABLE users (
    user_id INTEGER PRIMARY KEY,
    user_name TEXT NOT NULL DEFAULT '',
    time_zone TEXT NOT NULL DEFAULT 'UTC',
    follower_count INTEGER NOT NULL DEFAULT 0,
    facts_us INTEGER NOT NULL DEFAULT 0,
    update_us INTEGER NOT NULL DEFAULT 0,
    post_count INTEGER NOT NULL DEFAULT 0,
    impressions REAL NOT NULL DEFAULT 0,
    engagements REAL NOT NULL DEFAULT 0
);
CREATE TABLE cells (
    user_id INTEGER NOT NULL,
    hour_of_week INTEGER NOT NULL,
    posts REAL NOT NULL,
    engagements REAL NOT NULL,
    PRIMARY KEY (user_id, hour_of_week)
) WITHOUT ROWID;
CREATE TABLE posts (
    user_id INTEGER NOT NULL,
    post_id INTEGER NOT NULL,
    post_us INTEGER,
    engagements REAL NOT NULL,
    PRIMARY KEY (user_id, post_id)
) WITHOUT ROWID;
CREATE TABLE events (
    user_id INTEGER NOT NULL,
    kind INTEGER NOT NULL,
    post_id INTEGER NOT NULL,
    event_us INTEGER NOT NULL,
    weight REAL NOT NULL
);
CREATE TABLE requests (
    request_key BLOB PRIMARY KEY,
    digest BLOB NOT NULL,
    event_count INTEGER NOT NULL
) WITHOUT ROWID;
CREATE TABLE erasure (is_due INTEGER NOT NULL);
INSERT INTO erasure VALUES (0);
"""
_FROM_1 = """
ALTER TABLE requests RENAME TO old_requests;
CREATE TABLE requests (
    request_key BLOB PRIMARY KEY,
    digest BLOB NOT NULL,
    event_count INTEGER NOT NULL
) WITHOUT ROWID;
INSERT INTO requests SELECT request_key(request_id), digest, event_count FROM old_requests;
DROP TABLE old_requests;
CREATE TABLE erasure (is_due INTEGER NOT NULL);
INSERT INTO erasure VALUES (1);
"""


def request_key(request_id: str) -> bytes:
    """Returns what a `request_id` is kept as: it may hold a name, and outlives its user."""
    return hashlib.sha256(request_id.encode()).digest()


def create(connection: sqlite3.Connection) -> None:
    """Creates the tables, or brings those of version 1 up to date, in the caller's transaction.

    Raises `OSError` for a version that is not known here.
    """
    version = connection.execute("PRAGMA user_version").fetchone()[0]
    if version == SCHEMA_VERSION:
        return
    if version not in (0, 1):
        raise OSError(f"profile database has schema {version}, expected {SCHEMA_VERSION}")
    connection.create_function("request_key", 1, request_key, deterministic=True)
    for statement in (_FROM_1 if version else _TABLES).split(";")[:-1]:
        connection.execute(statement)
    connection.execute(f"PRAGMA user_version = {SCHEMA_VERSION}")
