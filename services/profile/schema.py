"""The tables of the profile database, and their version in `PRAGMA user_version`."""

import sqlite3

SCHEMA_VERSION = 1
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


def create(connection: sqlite3.Connection) -> None:
    """Creates the tables where there are none; raises `OSError` for a version not known here."""
    version = connection.execute("PRAGMA user_version").fetchone()[0]
    if version == SCHEMA_VERSION:
        return
    if version != 0:
        raise OSError(f"profile database has schema {version}, expected {SCHEMA_VERSION}")
    for statement in _TABLES.split(";")[:-1]:
        connection.execute(statement)
    connection.execute(f"PRAGMA user_version = {SCHEMA_VERSION}")
