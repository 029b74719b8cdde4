"""Ingests numbered messages into a database from a number on, and says each that is stored.

Run as a process of its own, so that a test can kill it: `python -m tests.profile.ingest_forever
DATABASE FIRST_NUMBER`. Message k has the posts 2k + 1 and 2k + 2 of user 1 and a like for each.
"""

import asyncio
import sys

from fomofeed.profile.v1 import profile_service_pb2 as pb
from services.profile.config import ProfileConfig
from services.profile.events import Message, read_message
from services.profile.opening import open_store
from tests.profile.profile_events import action, post


def numbered(number: int, user_id: int = 1) -> Message:
    """Returns the message of a number; the same one each time."""
    posts = (2 * number + 1, 2 * number + 2)
    events = [event for key in posts for event in (post(user_id, key), action(user_id, key))]
    request_id = f"message-{user_id}-{number}"
    return read_message(pb.IngestEventsRequest(request_id=request_id, events=events))


async def main() -> None:
    number = int(sys.argv[2])
    async with open_store(ProfileConfig(sys.argv[1], seed_demo_users=False)) as store:
        while True:
            await store.ingest(numbered(number))
            print(number, flush=True)
            number += 1


if __name__ == "__main__":
    asyncio.run(main())
