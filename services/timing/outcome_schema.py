"""The tables of recorded outcomes, step by step. The first had no version."""

import hashlib
import sqlite3

from serving.migrations import READ_VERSION, VERSION_TABLE, missing_steps, request_key

_OUTCOMES = """
CREATE TABLE IF NOT EXISTS outcomes (
    request_id TEXT PRIMARY KEY,
    user_id INTEGER NOT NULL,
    post_us INTEGER NOT NULL,
    engagements REAL NOT NULL
) WITHOUT ROWID;
CREATE INDEX IF NOT EXISTS outcomes_of_user ON outcomes (user_id);
"""
# What a request id was used for outlives the outcome, as a digest, so that a repetition does not
# bring a deleted user back; an id may hold a name, and is kept as a digest itself.
_REQUESTS = """
ALTER TABLE outcomes RENAME TO old_outcomes;
DROP INDEX outcomes_of_user;
CREATE TABLE requests (
    request_key BLOB PRIMARY KEY,
    digest BLOB NOT NULL
) WITHOUT ROWID;
CREATE TABLE outcomes (
    user_id INTEGER NOT NULL,
    post_us INTEGER NOT NULL,
    engagements REAL NOT NULL
);
CREATE INDEX outcomes_of_user ON outcomes (user_id);
INSERT INTO requests
    SELECT request_key(request_id), outcome_digest(user_id, post_us, engagements) FROM old_outcomes;
INSERT INTO outcomes SELECT user_id, post_us, engagements FROM old_outcomes;
DROP TABLE old_outcomes;
CREATE TABLE erasure (is_due INTEGER NOT NULL);
INSERT INTO erasure VALUES (1);
"""
STEPS = (_OUTCOMES, VERSION_TABLE + _REQUESTS)


def create(connection: sqlite3.Connection) -> None:
    """Creates the tables, or brings older ones up to date, in the caller's transaction.

    Raises `SchemaError` for a version that is not known here.
    """
    is_kept = "SELECT 1 FROM sqlite_master WHERE type = 'table' AND name = 'schema_version'"
    version = 0  # the first step does nothing where its table is
    if connection.execute(is_kept).fetchone() is not None:
        version = int(connection.execute(READ_VERSION).fetchone()[0])
    connection.create_function("request_key", 1, request_key, deterministic=True)
    connection.create_function("outcome_digest", 3, outcome_digest, deterministic=True)
    for statement in missing_steps("timing", STEPS, version):
        connection.execute(statement)


def outcome_digest(user_id: int, post_us: int, engagements: float) -> bytes:
    """Returns what tells a repetition from a clash; the SHA-256 of an outcome."""
    return hashlib.sha256(f"{user_id} {post_us} {engagements!r}".encode()).digest()
