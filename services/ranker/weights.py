"""Weight profiles: what an action is worth and how a feed is evened out.

They come from a YAML file of the server; a request names one, and may change it for itself.
"""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from itertools import islice
from pathlib import Path
from typing import Any

import numpy as np
import yaml
from numpy.typing import NDArray

from fomofeed.ranker.v1 import ranker_service_pb2 as pb
from services.ranker.heads import ACTIONS
from serving.errors import MAX_TEXT, MAX_VIOLATIONS, InvalidRequestError, Violation


@dataclass(frozen=True, slots=True)
class Range:
    """The values that a weight may have: `low` to `high`, `low` itself only where not `above`."""

    low: float
    high: float
    above: bool = False

    def holds(self, value: float) -> bool:
        return (self.low < value if self.above else self.low <= value) and value <= self.high

    def __str__(self) -> str:
        return f"{'above ' if self.above else ''}{self.low:g} to {self.high:,g}"


ACTION_WEIGHTS = Range(0.0, 100.0)
RANGES: Mapping[str, Range] = {
    "out_of_network": Range(0.0, 1.0, above=True),
    "author_decay": Range(0.0, 1.0),
    "author_floor": Range(0.0, 1.0),
    "max_age_hours": Range(0.0, 100_000.0, above=True),
}


@dataclass(frozen=True, slots=True)
class WeightProfile:
    """How candidates are valued; raises `ValueError` for a weight out of its range."""

    actions: tuple[float, ...]  # in the order of `ACTIONS`, each in `ACTION_WEIGHTS`
    out_of_network: float  # this and the others in their `RANGES`
    author_decay: float
    author_floor: float
    max_age_hours: float

    def __post_init__(self) -> None:
        if wrong := "; ".join(str(violation) for violation in self._violations()):
            raise ValueError(wrong)

    def diversity(self, earlier: NDArray[np.int64]) -> NDArray[np.float64]:
        """Returns the factor of a post before which `earlier` of the same author stand."""
        decayed = self.author_decay ** earlier.astype(np.float64)
        return np.asarray(self.author_floor + (1.0 - self.author_floor) * decayed)

    def changed(self, asked: pb.Weights) -> "WeightProfile":
        """Returns this profile with what a request sets; raises `InvalidRequestError`."""
        violations = list(_violations(asked))
        if violations:
            raise InvalidRequestError(*violations)
        actions = tuple(
            asked.actions.get(action, weight)
            for action, weight in zip(ACTIONS, self.actions, strict=True)
        )
        others = {name: getattr(asked, name) for name in RANGES if asked.HasField(name)}  # type: ignore[arg-type]  # the optional fields
        return replace(self, actions=actions, **others)

    def to_proto(self) -> pb.Weights:
        """Returns all weights as they are told."""
        others = {name: getattr(self, name) for name in RANGES}
        return pb.Weights(actions=dict(zip(ACTIONS, self.actions, strict=True)), **others)

    def _violations(self) -> Iterator[Violation]:
        for action, weight in zip(ACTIONS, self.actions, strict=True):
            yield from _outside(f"actions[{action}]", weight, ACTION_WEIGHTS)
        for name, limits in RANGES.items():
            yield from _outside(name, getattr(self, name), limits)


def read_profiles(path: Path) -> dict[str, WeightProfile]:
    """Reads the profiles, "default" among them; raises `ValueError` naming the profile."""
    document = yaml.safe_load(path.read_text(encoding="utf-8"))
    if not isinstance(document, dict) or "default" not in document:
        raise ValueError(f"{path.name} has no profile default")
    return {name: _profile(name, entry) for name, entry in document.items()}


def _violations(asked: pb.Weights) -> Iterator[Violation]:
    for action, weight in sorted(islice(asked.actions.items(), MAX_VIOLATIONS)):
        if action in ACTIONS:
            yield from _outside(f"weights.actions[{action}]", weight, ACTION_WEIGHTS)
        else:
            name = repr(action[:MAX_TEXT])
            yield Violation("weights.actions", name, f"keys are {', '.join(ACTIONS)}")
    for name, limits in RANGES.items():
        if asked.HasField(name):  # type: ignore[arg-type]  # the optional fields
            yield from _outside(f"weights.{name}", getattr(asked, name), limits)


def _outside(field: str, value: float, limits: Range) -> Iterator[Violation]:
    if not limits.holds(value):  # NaN is in no range
        yield Violation(field, f"{value:g}", str(limits))


def _profile(name: str, entry: Mapping[str, Any]) -> WeightProfile:
    values = dict(entry)
    actions = values.pop("actions", {})
    unknown = sorted(set(actions) - set(ACTIONS))
    if unknown:
        raise ValueError(f"profile {name} weighs unknown actions {', '.join(unknown)}")
    try:
        weights = tuple(float(actions.get(action, 0.0)) for action in ACTIONS)
        return WeightProfile(weights, **{key: float(value) for key, value in values.items()})
    except (TypeError, ValueError) as error:
        raise ValueError(f"profile {name}: {error}") from error
