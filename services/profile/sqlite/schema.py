"""The tables in SQLite, step by step. Before the third the version stood in `user_version`."""

import sqlite3

from serving.migrations import READ_VERSION, VERSION_TABLE, missing_steps, request_key

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
    request_id TEXT PRIMARY KEY,
    digest BLOB NOT NULL,
    event_count INTEGER NOT NULL
) WITHOUT ROWID;
"""
_DIGESTS_OF_REQUESTS = """
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
STEPS = (_TABLES, _DIGESTS_OF_REQUESTS, VERSION_TABLE)


def create(connection: sqlite3.Connection) -> None:
    """Creates the tables, or brings older ones up to date, in the caller's transaction.

    Raises `SchemaError` for a version that is not known here.
    """
    missing = missing_steps("profile", STEPS, _version(connection))
    if not missing:
        return
    connection.create_function("request_key", 1, request_key, deterministic=True)
    for statement in missing:
        connection.execute(statement)
    connection.execute(f"PRAGMA user_version = {len(STEPS)}")  # what older programs look at


def _version(connection: sqlite3.Connection) -> int:
    is_kept = "SELECT 1 FROM sqlite_master WHERE type = 'table' AND name = 'schema_version'"
    if connection.execute(is_kept).fetchone() is None:
        return int(connection.execute("PRAGMA user_version").fetchone()[0])
    return int(connection.execute(READ_VERSION).fetchone()[0])
