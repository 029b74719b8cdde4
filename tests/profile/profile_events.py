"""Events as tests write and read them."""

from datetime import UTC, datetime

import numpy as np
from google.protobuf.timestamp_pb2 import Timestamp

from fomofeed.profile.v1 import profile_service_pb2 as pb
from services.profile.events import Message, read_message
from services.profile.profiles import Profile, ProfileStore


def at(moment: datetime) -> Timestamp:
    """Returns an aware time as a message."""
    stamp = Timestamp()
    stamp.FromDatetime(moment.astimezone(UTC))
    return stamp


NOON = at(datetime(2026, 5, 4, 12, tzinfo=UTC))  # a Monday


def facts(user_id: int, zone: str, when: Timestamp = NOON, followers: int = 10) -> pb.Event:
    user = pb.UserFacts(user_name=f"user {user_id}", time_zone=zone, follower_count=followers)
    return pb.Event(kind=pb.EVENT_KIND_USER, user_id=user_id, event_time=when, user=user)


def post(user_id: int, post_id: int, when: Timestamp = NOON) -> pb.Event:
    return pb.Event(kind=pb.EVENT_KIND_POST, user_id=user_id, post_id=post_id, event_time=when)


def action(
    user_id: int,
    post_id: int,
    kind: pb.EventKind.ValueType = pb.EVENT_KIND_LIKE,
    weight: float | None = None,
    when: Timestamp = NOON,
) -> pb.Event:
    return pb.Event(kind=kind, user_id=user_id, post_id=post_id, event_time=when, weight=weight)


def message(request_id: str, *events: pb.Event) -> Message:
    return read_message(pb.IngestEventsRequest(request_id=request_id, events=events))


async def read(store: ProfileStore, user_id: int) -> Profile:
    """Reads the profile of a user who is there."""
    (profile,) = await store.profiles([user_id])
    assert profile is not None
    return profile


def assert_same(one: Profile | None, other: Profile | None) -> None:
    assert (one is None) == (other is None)
    if one is None or other is None:
        return
    for name in Profile.__slots__:
        assert np.array_equal(getattr(one, name), getattr(other, name)), name
