"""Stores one message in PostgreSQL, in the caller's transaction.

Adding the totals locks the rows of all users of the message, in the order of their ids: whoever
writes anything of a user has that user's lock, on however many servers, and none waits in a circle.
"""

from services.profile import statements as sql
from services.profile.changes import Changes, KnownPosts, KnownUsers, Writes, count_anew, plan
from services.profile.events import Action, Message
from services.profile.postgres.connecting import Connection
from services.profile.profiles import Stored
from serving.migrations import request_key

_ADD_TOTALS = sql.rows_for_postgres(sql.ADD_TOTALS, "bigint", "float8", "float8", "bigint")
_ADD_POSTS = sql.rows_for_postgres(sql.ADD_POSTS, "bigint", "bigint", "bigint", "float8")
_ADD_CELLS = sql.rows_for_postgres(sql.ADD_CELLS, "bigint", "smallint", "float8", "float8")
_KNOWN_USERS = "SELECT user_id, time_zone, facts_us FROM users WHERE user_id = ANY($1)"
_KNOWN_POSTS = (
    "SELECT user_id, post_id, post_us, engagements FROM posts"
    " JOIN unnest($1::bigint[], $2::bigint[]) AS asked (user_id, post_id) USING (user_id, post_id)"
)


async def store_message(connection: Connection, message: Message, changes: Changes) -> Stored:
    """Stores a message and the changes that it makes.

    Raises `InvalidRequestError` when its `request_id` was used for other events.
    """
    if await _is_repeated(connection, message):
        return Stored(0, message.event_count)
    await connection.execute(_ADD_TOTALS, *zip(*changes.totals, strict=True))
    users, posts = await _known_users(connection, changes), await _known_posts(connection, changes)
    writes = plan(changes, users, posts)
    await _write(connection, writes)
    await connection.copy_records_to_table(
        "events", records=message.actions, columns=Action._fields
    )
    return writes.stored


async def _is_repeated(connection: Connection, message: Message) -> bool:
    """Waits for another transaction that is storing the same message."""
    key = request_key(message.request_id)
    claim = (key, message.digest, message.event_count)
    if await connection.fetchval(sql.for_postgres(sql.CLAIM_REQUEST), *claim) is not None:
        return False
    if await connection.fetchval(sql.for_postgres(sql.READ_DIGEST), key) != message.digest:
        raise message.clash()
    return True


async def _known_users(connection: Connection, changes: Changes) -> KnownUsers:
    rows = await connection.fetch(_KNOWN_USERS, changes.user_ids())
    return {user_id: (time_zone, facts_us) for user_id, time_zone, facts_us in rows}


async def _known_posts(connection: Connection, changes: Changes) -> KnownPosts:
    keys = changes.post_keys()
    users, posts = [user for user, _ in keys], [post for _, post in keys]
    rows = await connection.fetch(_KNOWN_POSTS, users, posts)
    return {(user, post): (post_us, engaged) for user, post, post_us, engaged in rows}


async def _write(connection: Connection, writes: Writes) -> None:
    await connection.executemany(sql.for_postgres(sql.SET_FACTS), writes.facts)
    await connection.executemany(sql.for_postgres(sql.COUNT_POSTS), writes.post_counts)
    for statement, rows in ((_ADD_POSTS, writes.posts), (_ADD_CELLS, writes.cells)):
        if rows:
            await connection.execute(statement, *zip(*rows, strict=True))
    for user_id, time_zone in writes.moved.items():
        posts = await connection.fetch(sql.for_postgres(sql.READ_POSTS), user_id)
        await connection.execute(sql.for_postgres(sql.CLEAR_CELLS), user_id)
        if cells := count_anew(user_id, time_zone, posts):
            await connection.execute(_ADD_CELLS, *zip(*cells, strict=True))
