"""The tables in PostgreSQL, step by step."""

from services.profile.postgres.connecting import Connection
from serving.migrations import READ_VERSION, VERSION_TABLE, missing_steps

_TABLES = """
CREATE TABLE users (
    user_id BIGINT PRIMARY KEY,
    user_name TEXT NOT NULL DEFAULT '',
    time_zone TEXT NOT NULL DEFAULT 'UTC',
    follower_count BIGINT NOT NULL DEFAULT 0,
    facts_us BIGINT NOT NULL DEFAULT 0,
    update_us BIGINT NOT NULL DEFAULT 0,
    post_count BIGINT NOT NULL DEFAULT 0,
    impressions DOUBLE PRECISION NOT NULL DEFAULT 0,
    engagements DOUBLE PRECISION NOT NULL DEFAULT 0
);
CREATE TABLE cells (
    user_id BIGINT NOT NULL,
    hour_of_week SMALLINT NOT NULL,
    posts DOUBLE PRECISION NOT NULL,
    engagements DOUBLE PRECISION NOT NULL,
    PRIMARY KEY (user_id, hour_of_week)
);
CREATE TABLE posts (
    user_id BIGINT NOT NULL,
    post_id BIGINT NOT NULL,
    post_us BIGINT,
    engagements DOUBLE PRECISION NOT NULL,
    PRIMARY KEY (user_id, post_id)
);
CREATE TABLE events (
    user_id BIGINT NOT NULL,
    kind SMALLINT NOT NULL,
    post_id BIGINT NOT NULL,
    event_us BIGINT NOT NULL,
    weight DOUBLE PRECISION NOT NULL
);
CREATE TABLE requests (
    request_key BYTEA PRIMARY KEY,
    digest BYTEA NOT NULL,
    event_count BIGINT NOT NULL
);
CREATE TABLE erasure (is_due BIGINT NOT NULL);
INSERT INTO erasure VALUES (0);
"""
# Statistics of the planner would keep examples of names and ids after their users are gone. No
# plan needs them: what is asked for is asked by the whole key or the first column of one.
_NOBODY_IN_STATISTICS = """
ALTER TABLE users ALTER COLUMN user_id SET STATISTICS 0, ALTER COLUMN user_name SET STATISTICS 0;
ALTER TABLE cells ALTER COLUMN user_id SET STATISTICS 0;
ALTER TABLE posts ALTER COLUMN user_id SET STATISTICS 0, ALTER COLUMN post_id SET STATISTICS 0;
ALTER TABLE events ALTER COLUMN user_id SET STATISTICS 0, ALTER COLUMN post_id SET STATISTICS 0;
"""
STEPS = (VERSION_TABLE + _TABLES, _NOBODY_IN_STATISTICS)
_ONE_AT_A_TIME = "SELECT pg_advisory_xact_lock(7310579664101)"  # any number, always the same


async def create(connection: Connection) -> None:
    """Creates the tables, or brings older ones up to date, though several servers start at once.

    Raises `SchemaError` for a version that is not known here.
    """
    async with connection.transaction():
        await connection.execute(_ONE_AT_A_TIME)
        for statement in missing_steps("profile", STEPS, await _version(connection)):
            await connection.execute(statement)


async def _version(connection: Connection) -> int:
    if await connection.fetchval("SELECT to_regclass('schema_version')") is None:
        return 0
    return int(await connection.fetchval(READ_VERSION))
