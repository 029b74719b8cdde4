"""The simulated creators as events, for a database that has no user yet."""

from collections.abc import Iterator
from datetime import UTC

from google.protobuf.timestamp_pb2 import Timestamp

from fomofeed.profile.v1 import profile_service_pb2 as pb
from services.profile.events import Message, read_message
from simulation.demo import FIRST_MONDAY, DemoPost, DemoUser, demo_users

_KINDS = {
    "like": pb.EVENT_KIND_LIKE,
    "comment": pb.EVENT_KIND_COMMENT,
    "share": pb.EVENT_KIND_SHARE,
    "follow": pb.EVENT_KIND_FOLLOW,
}


def demo_messages() -> Iterator[Message]:
    """Yields one message for each demo user; the same ones each time."""
    for user in demo_users():
        yield read_message(demo_request(user))


def demo_request(user: DemoUser) -> pb.IngestEventsRequest:
    """Returns a demo user's facts and posts as a message of `IngestEvents`."""
    joined = Timestamp()
    joined.FromDatetime(FIRST_MONDAY.replace(tzinfo=UTC))
    facts = pb.UserFacts(
        user_name=user.user_name, time_zone=user.time_zone, follower_count=user.follower_count
    )
    first = pb.Event(kind=pb.EVENT_KIND_USER, user_id=user.user_id, event_time=joined, user=facts)
    events = [first, *(event for post in user.posts for event in _post_events(user, post))]
    return pb.IngestEventsRequest(events=events, request_id=f"demo-user-{user.user_id}-v1")


def _post_events(user: DemoUser, post: DemoPost) -> Iterator[pb.Event]:
    when = Timestamp()
    when.FromDatetime(post.post_time)
    yield pb.Event(
        kind=pb.EVENT_KIND_POST, user_id=user.user_id, post_id=post.post_id, event_time=when
    )
    counts = {pb.EVENT_KIND_IMPRESSION: post.impressions}
    counts |= {_KINDS[action]: count for action, count in post.actions.items()}
    for kind, count in counts.items():
        if count:
            yield pb.Event(
                kind=kind,
                user_id=user.user_id,
                post_id=post.post_id,
                event_time=when,
                weight=float(count),
            )
