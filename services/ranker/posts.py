"""Drafts as messages: what `ScorePost` takes and gives."""

from collections.abc import Iterable, Iterator, Sequence
from typing import Literal, get_args

import numpy as np
from numpy.typing import NDArray

from fomofeed.ranker.v1 import ranker_service_pb2 as pb
from fomofeed.type.v1 import type_pb2
from services.ranker.features import INPUTS, MAY_BE_UNKNOWN, UNKNOWN
from services.ranker.heads import ACTIONS
from services.ranker.scorer import Predictions
from serving.errors import MAX_TEXT, InvalidRequestError, Violation
from serving.form import MAX_CAPTION_CHARS, form_of

Row = tuple[float, float, list[float], list[float], list[float]]
Optional = Literal["quality_score", "hour_of_week", "follower_count", "avg_engagement", "is_reply"]

CONTENT_TYPES = ("post", "moment")
MAX_TAGS = 100
MAX_FOLLOWERS = 10**12
_OPTIONAL: tuple[Optional, ...] = get_args(Optional)


def check(request: pb.ScorePostRequest) -> None:
    """Raises `InvalidRequestError` naming every field out of its range."""
    violations = list(_violations(request))
    if violations:
        raise InvalidRequestError(*violations)


def to_columns(requests: Sequence[pb.ScorePostRequest]) -> dict[str, NDArray[np.float64]]:
    """Returns the inputs of checked requests, each (requests,)."""
    return by_name([inputs_of(request) for request in requests])


def by_name(inputs: Sequence[Sequence[float]]) -> dict[str, NDArray[np.float64]]:
    """Returns the columns of rows as `inputs_of` gives them."""
    rows = np.array(inputs, dtype=np.float64)
    return dict(zip(INPUTS, rows.reshape(-1, len(INPUTS)).T, strict=True))


def inputs_of(request: pb.ScorePostRequest) -> list[float]:
    """Returns the inputs in the order of `INPUTS`."""
    *measured, is_reply = (
        float(getattr(request, name)) if request.HasField(name) else UNKNOWN for name in _OPTIONAL
    )
    is_moment = request.content_type == "moment"
    form = form_of(request.caption)
    plain = (is_moment, request.has_video, len(request.caption), len(request.tags))
    counted = (form.link_count, form.mention_count, form.caps_share)
    return [*measured, *map(float, plain), is_reply, *map(float, counted)]


class Writer:
    """Writes predictions into messages.

    What all answers of a model have in common is copied from one message, made once: a third of the
    time of making each anew.
    """

    def __init__(self) -> None:
        self._common = pb.ScorePostResponse()
        self._learned: list[int] = []  # which of `INPUTS` are told of
        self._ref: type_pb2.ModelRef | None = None

    def write(
        self,
        found: Predictions,
        inputs: Sequence[Sequence[float]],
        responses: Iterable[pb.ScorePostResponse],
    ) -> None:
        """Fills empty responses, one for each row of predictions and the inputs it was made of."""
        if found.ref is not self._ref:
            self._common, self._ref = _common(found), found.ref
            self._learned = [i for i, name in enumerate(INPUTS) if name not in found.unlearned]
        effects = found.contributions[:, self._learned]
        columns = (found.score, found.confidence, found.reach, found.actions, effects)
        rows = zip(*(column.tolist() for column in columns), strict=True)
        for response, row, own in zip(responses, rows, inputs, strict=True):
            response.CopyFrom(self._common)
            _fill(response, row, [own[index] for index in self._learned])


def _common(found: Predictions) -> pb.ScorePostResponse:
    learned = (name for name in INPUTS if name not in found.unlearned)
    return pb.ScorePostResponse(
        reach=type_pb2.Estimate(unit="accounts"),
        actions=[pb.ActionProbability(action=action) for action in ACTIONS],
        contributions=[type_pb2.Contribution(feature=name) for name in learned],
        model=found.ref,
        unlearned_inputs=found.unlearned,
    )


def _fill(response: pb.ScorePostResponse, row: Row, inputs: Sequence[float]) -> None:
    score, confidence, reach, rates, effects = row
    response.engagement_score, response.confidence = score, confidence
    response.reach.p10, response.reach.p50, response.reach.p90 = reach
    for action, rate in zip(response.actions, rates, strict=True):
        action.probability = rate
    for part, value, effect in zip(response.contributions, inputs, effects, strict=True):
        part.value, part.effect = value, effect
        if value == UNKNOWN and part.feature in MAY_BE_UNKNOWN:
            part.feature, part.value = f"{part.feature}_unknown", 1.0


def action_probabilities(rates: NDArray[np.float64]) -> list[pb.ActionProbability]:
    """Converts the (4,) probabilities of one post."""
    return [
        pb.ActionProbability(action=action, probability=rate)
        for action, rate in zip(ACTIONS, rates.tolist(), strict=True)
    ]


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
