"""Between the contract's messages and what the arithmetic takes. Everything is checked here."""

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from itertools import islice
from zoneinfo import ZoneInfo

import numpy as np
from google.protobuf.timestamp_pb2 import Timestamp
from numpy.typing import NDArray

from fomofeed.timing.v1 import timing_service_pb2 as pb
from fomofeed.type.v1 import type_pb2
from services.timing.outcomes import Outcome
from services.timing.suggest import Evidence, Slot
from serving.errors import MAX_TEXT, MAX_VIOLATIONS, InvalidRequestError, Violation
from serving.hours import HOURS, zone_named

Array = NDArray[np.float64]

MAX_POSTS = 1e9
MAX_ENGAGEMENTS = 1e12
MAX_WINDOW = timedelta(days=366)
DEFAULT_WINDOW = timedelta(days=7)
DEFAULT_SLOTS = 3
MAX_REQUEST_ID_CHARS = 128
EARLIEST = datetime(2000, 1, 1, tzinfo=UTC)
LATEST = datetime(2100, 1, 1, tzinfo=UTC)
_EVIDENCE = {
    Evidence.POPULATION: pb.EVIDENCE_POPULATION,
    Evidence.SHRUNK: pb.EVIDENCE_SHRUNK,
    Evidence.OWN_HISTORY: pb.EVIDENCE_OWN_HISTORY,
}


@dataclass(frozen=True, slots=True)
class Query:
    """A checked request: `posts` and `engagements` are (168,) counts, the window is aware."""

    user_id: int
    zone: ZoneInfo
    posts: Array
    engagements: Array
    quality_score: float | None
    has_video: bool
    not_before: datetime
    not_after: datetime
    blocked: frozenset[int]
    max_slots: int


def read_query(request: pb.SuggestPostingTimesRequest, now: datetime) -> Query:
    """Checks a request whose window opens `now` by default. Raises `InvalidRequestError`."""
    violations = list(islice(_violations(request), MAX_VIOLATIONS + 1))
    if violations:
        raise InvalidRequestError(*violations)
    zone = zone_named(request.time_zone or "UTC")
    assert zone is not None
    not_before = _moment(request.not_before) if request.HasField("not_before") else now
    has_end = request.HasField("not_after")
    not_after = _moment(request.not_after) if has_end else not_before + DEFAULT_WINDOW
    if not timedelta(0) <= not_after - not_before <= MAX_WINDOW:
        limit = f"from {not_before.isoformat()} to {MAX_WINDOW.days} days later"
        raise InvalidRequestError(Violation("not_after", not_after.isoformat(), limit))
    return Query(
        user_id=request.user_id,
        zone=zone,
        posts=_cells(request.posts_by_hour),
        engagements=_cells(request.engagements_by_hour),
        quality_score=request.quality_score if request.HasField("quality_score") else None,
        has_video=request.has_video,
        not_before=not_before,
        not_after=not_after,
        blocked=frozenset(request.blocked_hours_of_week),
        max_slots=request.max_slots or DEFAULT_SLOTS,
    )


def read_outcome(request: pb.RecordPostOutcomeRequest) -> Outcome:
    """Checks an outcome; raises `InvalidRequestError`."""
    violations = list(_outcome_violations(request))
    if violations:
        raise InvalidRequestError(*violations)
    return Outcome(request.user_id, request.post_time.ToMicroseconds(), request.engagements)


def slot_to_proto(slot: Slot) -> pb.Slot:
    """Converts a slot."""
    start = Timestamp()
    start.FromDatetime(slot.start)
    return pb.Slot(
        start_time=start,
        hour_of_week=slot.hour_of_week,
        relative_engagement=estimate(slot.relative_engagement, "user's average hour"),
        probability_best=slot.probability_best,
    )


def estimate(spread: tuple[float, float, float], unit: str) -> type_pb2.Estimate:
    """Converts p10, p50, p90."""
    return type_pb2.Estimate(p10=spread[0], p50=spread[1], p90=spread[2], unit=unit)


def evidence_to_proto(evidence: Evidence) -> pb.Evidence.ValueType:
    """Converts the kind of evidence."""
    return _EVIDENCE[evidence]


def _violations(request: pb.SuggestPostingTimesRequest) -> Iterator[Violation]:
    if request.user_id < 0:
        yield Violation("user_id", str(request.user_id), "at least 0")
    if request.time_zone and zone_named(request.time_zone) is None:
        value = repr(request.time_zone[:MAX_TEXT])
        yield Violation("time_zone", value, "an IANA name such as Europe/Rome, or empty for UTC")
    yield from _cell_violations("posts_by_hour", request.posts_by_hour, MAX_POSTS)
    yield from _cell_violations("engagements_by_hour", request.engagements_by_hour, MAX_ENGAGEMENTS)
    if len(request.posts_by_hour) != len(request.engagements_by_hour):
        lengths = f"{len(request.engagements_by_hour)} cells"
        limit = f"as many as posts_by_hour ({len(request.posts_by_hour)})"
        yield Violation("engagements_by_hour", lengths, limit)
    if request.HasField("quality_score") and not 0 <= request.quality_score <= 10:
        yield Violation("quality_score", str(request.quality_score), "0 to 10")
    yield from _constraint_violations(request)


def _constraint_violations(request: pb.SuggestPostingTimesRequest) -> Iterator[Violation]:
    for field in ("not_before", "not_after"):
        if request.HasField(field):
            yield from _time_violations(field, getattr(request, field))
    if not 0 <= request.max_slots <= HOURS:
        yield Violation("max_slots", str(request.max_slots), f"0 to {HOURS}")
    if len(request.blocked_hours_of_week) > HOURS:
        count = f"{len(request.blocked_hours_of_week)} hours"
        yield Violation("blocked_hours_of_week", count, f"at most {HOURS}, each once")
        return
    for index, hour in enumerate(request.blocked_hours_of_week):
        if not 0 <= hour < HOURS:
            yield Violation(f"blocked_hours_of_week[{index}]", str(hour), f"0 to {HOURS - 1}")


def _outcome_violations(request: pb.RecordPostOutcomeRequest) -> Iterator[Violation]:
    if request.user_id < 1:
        yield Violation("user_id", str(request.user_id), "at least 1")
    if request.HasField("post_time"):
        yield from _time_violations("post_time", request.post_time)
    else:
        yield Violation("post_time", "missing", "required")
    if not 0 <= request.engagements <= MAX_ENGAGEMENTS:  # NaN is in no range
        yield Violation("engagements", str(request.engagements), f"0 to {MAX_ENGAGEMENTS:g}")
    if not 1 <= len(request.request_id) <= MAX_REQUEST_ID_CHARS:
        length = f"{len(request.request_id)} characters"
        yield Violation("request_id", length, f"1 to {MAX_REQUEST_ID_CHARS} characters")


def _cell_violations(field: str, cells: Sequence[float], limit: float) -> Iterator[Violation]:
    if len(cells) not in (0, HOURS):
        yield Violation(field, f"{len(cells)} cells", f"exactly {HOURS}, or none")
        return
    for index, value in enumerate(cells):
        if not (math.isfinite(value) and 0 <= value <= limit):
            yield Violation(f"{field}[{index}]", str(value), f"0 to {limit:g}")


def _time_violations(field: str, moment: Timestamp) -> Iterator[Violation]:
    if not EARLIEST.timestamp() <= moment.seconds < LATEST.timestamp():
        yield Violation(field, f"{moment.seconds} s", "years 2000 to 2100")
    elif not 0 <= moment.nanos < 10**9:
        yield Violation(f"{field}.nanos", str(moment.nanos), "0 to 999,999,999")


def _moment(moment: Timestamp) -> datetime:
    return moment.ToDatetime(tzinfo=UTC)


def _cells(values: Sequence[float]) -> Array:
    return np.array(values, dtype=np.float64) if values else np.zeros(HOURS)
