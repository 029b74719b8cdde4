"""Ingests numbered messages into a database from a number on, and says each that is stored.

Run as a process of its own, so that a test can kill it: `python -m tests.profile.ingest_forever
DATABASE FIRST_NUMBER`. Message k has the posts 2k + 1 and 2k + 2 of user 1 and a like for each.
"""

import sys
from pathlib import Path

from fomofeed.profile.v1 import profile_service_pb2 as pb
from services.profile.events import read_message
from services.profile.store import Store
from tests.profile.profile_events import action, post


def request(number: int) -> pb.IngestEventsRequest:
    """Returns the message of a number; the same one each time."""
    posts = (2 * number + 1, 2 * number + 2)
    events = [event for post_id in posts for event in (post(1, post_id), action(1, post_id))]
    return pb.IngestEventsRequest(request_id=f"message-{number}", events=events)


def main() -> None:
    store = Store(Path(sys.argv[1]))
    number = int(sys.argv[2])
    while True:
        store.ingest([read_message(request(number))])
        print(number, flush=True)
        number += 1


if __name__ == "__main__":
    main()
