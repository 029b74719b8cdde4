"""Drafts as messages: what `ScorePost` takes and gives."""

from collections.abc import Iterator, Sequence

import numpy as np
from numpy.typing import NDArray

from fomofeed.ranker.v1 import ranker_service_pb2 as pb
from fomofeed.type.v1 import type_pb2
from services.ranker.features import INPUTS, MAY_BE_UNKNOWN, UNKNOWN
from services.ranker.heads import ACTIONS
from services.ranker.scorer import Predictions
from serving.errors import MAX_TEXT, InvalidRequestError, Violation

CONTENT_TYPES = ("post", "moment")
MAX_CAPTION_CHARS = 5000
MAX_TAGS = 100
MAX_FOLLOWERS = 10**12


def check(request: pb.ScorePostRequest) -> None:
    """Raises `InvalidRequestError` naming every field out of its range."""
    violations = list(_violations(request))
    if violations:
        raise InvalidRequestError(*violations)


def to_columns(requests: Sequence[pb.ScorePostRequest]) -> dict[str, NDArray[np.float64]]:
    """Returns the inputs of checked requests, each (requests,)."""
    rows = np.array([_inputs(request) for request in requests], dtype=np.float64)
    return dict(zip(INPUTS, rows.reshape(-1, len(INPUTS)).T, strict=True))


def to_response(request: pb.ScorePostRequest, found: Predictions, row: int) -> pb.ScorePostResponse:
    """Converts one row of predictions."""
    low, middle, high = found.reach[row].tolist()
    return pb.ScorePostResponse(
        engagement_score=found.score[row],
        reach=type_pb2.Estimate(p10=low, p50=middle, p90=high, unit="accounts"),
        actions=action_probabilities(found.actions[row]),
        contributions=[
            _contribution(name, value, effect)
            for name, value, effect in zip(
                INPUTS, _inputs(request), found.contributions[row].tolist(), strict=True
            )
        ],
        confidence=found.confidence[row],
        model=found.ref,
    )


def action_probabilities(rates: NDArray[np.float64]) -> list[pb.ActionProbability]:
    """Converts the (4,) probabilities of one post."""
    return [
        pb.ActionProbability(action=action, probability=rate)
        for action, rate in zip(ACTIONS, rates.tolist(), strict=True)
    ]


def _contribution(name: str, value: float, effect: float) -> type_pb2.Contribution:
    if name in MAY_BE_UNKNOWN and value == UNKNOWN:
        return type_pb2.Contribution(feature=f"{name}_unknown", value=1.0, effect=effect)
    return type_pb2.Contribution(feature=name, value=value, effect=effect)


def _inputs(request: pb.ScorePostRequest) -> list[float]:
    """Returns the inputs in the order of `INPUTS`."""
    unsure = [
        float(getattr(request, name)) if request.HasField(name) else UNKNOWN  # type: ignore[arg-type]  # the four optional fields
        for name in MAY_BE_UNKNOWN
    ]
    is_moment = request.content_type == "moment"
    caption_length, tag_count = len(request.caption), len(request.tags)
    return [*unsure, float(is_moment), float(request.has_video), caption_length, tag_count]


def _violations(request: pb.ScorePostRequest) -> Iterator[Violation]:
    if request.user_id < 0:
        yield Violation("user_id", str(request.user_id), "at least 0")
    ranges = {
        "quality_score": (request.quality_score, 10),
        "hour_of_week": (request.hour_of_week, 167),
        "follower_count": (request.follower_count, MAX_FOLLOWERS),
        "avg_engagement": (request.avg_engagement, 1),
    }
    for field, (value, most) in ranges.items():
        if not 0 <= value <= most:  # NaN is in no range; an absent field is 0
            yield Violation(field, str(value), f"0 to {most:,}")
    if request.content_type not in ("", *CONTENT_TYPES):
        known = f"one of {', '.join(CONTENT_TYPES)}, or empty"
        yield Violation("content_type", repr(request.content_type[:MAX_TEXT]), known)
    if len(request.caption) > MAX_CAPTION_CHARS:
        length = f"{len(request.caption):,} characters"
        yield Violation("caption", length, f"at most {MAX_CAPTION_CHARS:,} characters")
    if len(request.tags) > MAX_TAGS:
        yield Violation("tags", f"{len(request.tags):,} tags", f"at most {MAX_TAGS}")
