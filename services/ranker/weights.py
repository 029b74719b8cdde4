"""Weight profiles: what an action is worth and how a feed is evened out, from a YAML file."""

import math
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import yaml
from numpy.typing import NDArray

from services.ranker.heads import ACTIONS

MAX_ACTION_WEIGHT = 100.0


@dataclass(frozen=True, slots=True)
class WeightProfile:
    """How candidates are valued; ranges are checked."""

    actions: tuple[float, ...]  # in the order of `ACTIONS`, each 0 to 100
    out_of_network: float  # above 0 to 1
    author_decay: float  # 0 to 1
    author_floor: float  # 0 to 1
    max_age_hours: float  # above 0

    def __post_init__(self) -> None:
        if not all(0 <= weight <= MAX_ACTION_WEIGHT for weight in self.actions):
            raise ValueError(f"action weights are {self.actions}, each 0 to {MAX_ACTION_WEIGHT:g}")
        if not 0 < self.out_of_network <= 1:
            raise ValueError(f"out_of_network is {self.out_of_network}, above 0 to 1")
        if not (0 <= self.author_decay <= 1 and 0 <= self.author_floor <= 1):
            raise ValueError("author_decay and author_floor are 0 to 1")
        if not (math.isfinite(self.max_age_hours) and self.max_age_hours > 0):
            raise ValueError(f"max_age_hours is {self.max_age_hours}, above 0")

    def diversity(self, earlier: NDArray[np.int64]) -> NDArray[np.float64]:
        """Returns the factor of a post before which `earlier` of the same author stand."""
        decayed = self.author_decay ** earlier.astype(np.float64)
        return np.asarray(self.author_floor + (1.0 - self.author_floor) * decayed)


def read_profiles(path: Path) -> dict[str, WeightProfile]:
    """Reads the profiles, "default" among them; raises `ValueError` naming the profile."""
    document = yaml.safe_load(path.read_text(encoding="utf-8"))
    if not isinstance(document, dict) or "default" not in document:
        raise ValueError(f"{path.name} has no profile default")
    return {name: _profile(name, entry) for name, entry in document.items()}


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
