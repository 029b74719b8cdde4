"""Events as they come in, checked once; inside the room they are plain tuples of numbers."""

import hashlib
import math
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import NamedTuple

from fomofeed.profile.v1 import profile_service_pb2 as pb
from serving.errors import MAX_VIOLATIONS, InvalidRequestError, Violation
from serving.hours import zone_named

MAX_EVENTS = 10_000  # in one message
MAX_NAME_CHARS = 100
MAX_REQUEST_ID_CHARS = 128
MAX_FOLLOWERS = 10**12
MAX_WEIGHT = 1e9
EARLIEST_S = int(datetime(2000, 1, 1, tzinfo=UTC).timestamp())
LATEST_S = int(datetime(2100, 1, 1, tzinfo=UTC).timestamp())
MAX_AHEAD = timedelta(days=1)  # of the server's clock; clocks differ, and some have leapt
ENGAGEMENTS = frozenset(
    {
        pb.EVENT_KIND_LIKE,
        pb.EVENT_KIND_COMMENT,
        pb.EVENT_KIND_SHARE,
        pb.EVENT_KIND_FOLLOW,
    }
)
_ACTION_KINDS = ENGAGEMENTS | {pb.EVENT_KIND_POST, pb.EVENT_KIND_IMPRESSION}


@dataclass(frozen=True, slots=True)
class Facts:
    """What a creator said of themselves at `event_us`, microseconds since 1970."""

    user_id: int
    event_us: int
    user_name: str
    time_zone: str
    follower_count: int


class Action(NamedTuple):
    """A post, an impression or an engagement, as a row of the log.

    A tuple, not a dataclass: a message has thousands, it is made in a third of the time, and the
    databases take it as it is.
    """

    user_id: int
    kind: int  # an `EventKind`
    post_id: int
    event_us: int  # microseconds since 1970
    weight: float  # how many of them


@dataclass(frozen=True, slots=True)
class Message:
    """One message of a stream: stored whole or not at all."""

    request_id: str
    digest: bytes  # SHA-256 of the content, to tell a repetition from a clash
    facts: tuple[Facts, ...]
    actions: tuple[Action, ...]

    @property
    def event_count(self) -> int:
        return len(self.facts) + len(self.actions)

    def clash(self) -> InvalidRequestError:
        """Returns the error for a `request_id` that was used for other events."""
        limit = "once for one content; it was used for other events"
        return InvalidRequestError(Violation("request_id", repr(self.request_id), limit))


def read_message(request: pb.IngestEventsRequest) -> Message:
    """Converts a message of the stream; raises `InvalidRequestError` naming every bad field."""
    violations = list(_envelope_violations(request))
    facts: list[Facts] = []
    actions: list[Action] = []
    for index, event in enumerate(() if violations else request.events):
        action = _action_if_good(event)
        if action is not None:
            actions.append(action)
        elif found := list(_event_violations(event)):
            violations += [Violation(f"events[{index}].{field}", *rest) for field, *rest in found]
            if len(violations) > MAX_VIOLATIONS:
                break
        else:
            facts.append(_facts(event))
    if violations:
        raise InvalidRequestError(*violations)
    digest = hashlib.sha256(request.SerializeToString(deterministic=True)).digest()
    return Message(request.request_id, digest, tuple(facts), tuple(actions))


def check_clock(message: Message, now: datetime) -> None:
    """Raises `InvalidRequestError` for events later than `MAX_AHEAD` after `now`, an aware time.

    Facts from the future would hide all later ones until it comes.
    """
    limit = now + MAX_AHEAD
    limit_us = int(limit.timestamp() * 1e6)
    late_us = max(
        max((facts.event_us for facts in message.facts), default=0),
        max((action.event_us for action in message.actions), default=0),
    )
    if late_us > limit_us:
        found = datetime.fromtimestamp(late_us // 1_000_000, UTC).isoformat()
        rule = f"at most a day ahead of the server's clock: {limit.isoformat(timespec='seconds')}"
        raise InvalidRequestError(Violation("events.event_time", found, rule))


def _envelope_violations(request: pb.IngestEventsRequest) -> Iterator[Violation]:
    if not 1 <= len(request.request_id) <= MAX_REQUEST_ID_CHARS:
        length = f"{len(request.request_id)} characters"
        yield Violation("request_id", length, f"1 to {MAX_REQUEST_ID_CHARS} characters")
    if not 1 <= len(request.events) <= MAX_EVENTS:
        yield Violation("events", f"{len(request.events)} events", f"1 to {MAX_EVENTS:,}")


def _action_if_good(event: pb.Event) -> Action | None:
    """Converts an action; None for facts, and for what `_event_violations` has words for.

    The way of nearly all events: it asks once for each field.
    """
    user_id, kind, post_id, when = event.user_id, event.kind, event.post_id, event.event_time
    seconds, nanos = when.seconds, when.nanos
    weight = event.weight if event.HasField("weight") else None
    is_good = (
        kind in _ACTION_KINDS
        and user_id >= 1
        and post_id >= 1
        and EARLIEST_S <= seconds < LATEST_S
        and 0 <= nanos < 10**9
        and (weight is None or (kind != pb.EVENT_KIND_POST and 0 < weight <= MAX_WEIGHT))
        and not event.HasField("user")
    )
    if not is_good:
        return None
    event_us = seconds * 1_000_000 + nanos // 1000
    return Action(user_id, kind, post_id, event_us, 1.0 if weight is None else weight)


def _event_violations(event: pb.Event) -> Iterator[tuple[str, str, str]]:
    if event.kind not in _ACTION_KINDS and event.kind != pb.EVENT_KIND_USER:
        yield "kind", str(event.kind), "one of EventKind, not UNSPECIFIED"
    if event.user_id < 1:
        yield "user_id", str(event.user_id), "at least 1"
    if not event.HasField("event_time"):
        yield "event_time", "missing", "required"
    elif not EARLIEST_S <= event.event_time.seconds < LATEST_S:
        yield "event_time", f"{event.event_time.seconds} s", "years 2000 to 2100"
    elif not 0 <= event.event_time.nanos < 10**9:
        yield "event_time.nanos", str(event.event_time.nanos), "0 to 999,999,999"
    if event.kind == pb.EVENT_KIND_USER:
        yield from _facts_violations(event)
    else:
        yield from _action_violations(event)


def _facts_violations(event: pb.Event) -> Iterator[tuple[str, str, str]]:
    if not event.HasField("user"):
        yield "user", "missing", "required for EVENT_KIND_USER"
        return
    if event.HasField("weight"):
        yield "weight", str(event.weight), "absent for EVENT_KIND_USER"
    if zone_named(event.user.time_zone) is None:
        yield "user.time_zone", repr(event.user.time_zone), "an IANA name such as Europe/Rome"
    if len(event.user.user_name) > MAX_NAME_CHARS:
        length = f"{len(event.user.user_name)} characters"
        yield "user.user_name", length, f"at most {MAX_NAME_CHARS} characters"
    if "\0" in event.user.user_name:  # PostgreSQL keeps none
        yield "user.user_name", repr(event.user.user_name), "without NUL characters"
    if not 0 <= event.user.follower_count <= MAX_FOLLOWERS:
        yield "user.follower_count", str(event.user.follower_count), f"0 to {MAX_FOLLOWERS:,}"


def _action_violations(event: pb.Event) -> Iterator[tuple[str, str, str]]:
    if event.post_id < 1:
        yield "post_id", str(event.post_id), "at least 1"
    if event.HasField("user"):
        yield "user", "present", "only for EVENT_KIND_USER"
    if event.HasField("weight"):
        if event.kind == pb.EVENT_KIND_POST:
            yield "weight", str(event.weight), "absent for EVENT_KIND_POST"
        elif not (math.isfinite(event.weight) and 0 < event.weight <= MAX_WEIGHT):
            yield "weight", str(event.weight), f"above 0, at most {MAX_WEIGHT:g}"


def _facts(event: pb.Event) -> Facts:
    user, when = event.user, event.event_time
    event_us = when.seconds * 1_000_000 + when.nanos // 1000
    return Facts(event.user_id, event_us, user.user_name, user.time_zone, user.follower_count)
