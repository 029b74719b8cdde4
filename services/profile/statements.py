"""The SQL that both databases understand. Parameters are written ?1, ?2; PostgreSQL says $1, $2."""

TABLES_OF_USERS = ("users", "cells", "posts", "events")  # `users` first: its rows are the locks

USER_COLUMNS = (
    "user_id, user_name, time_zone, CASE WHEN facts_us > 0 THEN follower_count END,"
    " update_us, post_count, impressions, engagements"
)
READ_POSTS = "SELECT post_us, engagements FROM posts WHERE user_id = ?1 AND post_us IS NOT NULL"
ANY_USER = "SELECT 1 FROM users LIMIT 1"

CLAIM_REQUEST = (
    "INSERT INTO requests (request_key, digest, event_count) VALUES (?1, ?2, ?3)"
    " ON CONFLICT (request_key) DO NOTHING RETURNING event_count"
)
READ_DIGEST = "SELECT digest FROM requests WHERE request_key = ?1"

# Creates the users who are new. Later statements rely on it.
ADD_TOTALS = (
    "INSERT INTO users (user_id, impressions, engagements, update_us) VALUES (?1, ?2, ?3, ?4)"
    " ON CONFLICT (user_id) DO UPDATE SET"
    " impressions = users.impressions + excluded.impressions,"
    " engagements = users.engagements + excluded.engagements,"
    " update_us = CASE WHEN excluded.update_us > users.update_us"
    " THEN excluded.update_us ELSE users.update_us END"
)
SET_FACTS = (
    "UPDATE users SET user_name = ?1, time_zone = ?2, follower_count = ?3, facts_us = ?4"
    " WHERE user_id = ?5"
)
ADD_POSTS = (
    "INSERT INTO posts (user_id, post_id, post_us, engagements) VALUES (?1, ?2, ?3, ?4)"
    " ON CONFLICT (user_id, post_id) DO UPDATE SET"
    " post_us = COALESCE(posts.post_us, excluded.post_us),"
    " engagements = posts.engagements + excluded.engagements"
)
COUNT_POSTS = "UPDATE users SET post_count = post_count + ?1 WHERE user_id = ?2"
ADD_CELLS = (
    "INSERT INTO cells (user_id, hour_of_week, posts, engagements) VALUES (?1, ?2, ?3, ?4)"
    " ON CONFLICT (user_id, hour_of_week) DO UPDATE SET"
    " posts = cells.posts + excluded.posts, engagements = cells.engagements + excluded.engagements"
)
CLEAR_CELLS = "DELETE FROM cells WHERE user_id = ?1"

LATEST_EVENT = "SELECT MAX(event_us) FROM events"
DROP_EVENTS = "DELETE FROM events WHERE event_us < ?1"
FORGET = tuple(f"DELETE FROM {table} WHERE user_id = ?1" for table in TABLES_OF_USERS)

# Deletions whose bytes may remain in the files: counted, so that one noted meanwhile is not lost.
NOTE_DEBT = "UPDATE erasure SET is_due = is_due + 1"
READ_DEBT = "SELECT is_due FROM erasure"
PAY_DEBT = "UPDATE erasure SET is_due = 0 WHERE is_due = ?1"


def for_postgres(statement: str) -> str:
    """Returns a statement with PostgreSQL's parameters."""
    return statement.replace("?", "$")


def rows_for_postgres(insertion: str, *types: str) -> str:
    """Returns the insertion of one row as one of many: each parameter is an array, a column.

    Rows are inserted in their order, so that concurrent messages take locks in the same one.
    """
    values = ", ".join(f"?{number}" for number in range(1, len(types) + 1))
    arrays = ", ".join(f"?{number}::{name}[]" for number, name in enumerate(types, 1))
    assert f"VALUES ({values})" in insertion
    return for_postgres(insertion.replace(f"VALUES ({values})", f"SELECT * FROM unnest({arrays})"))
