"""The trained ranker as numbers, and what it computes: the reference for the ONNX graph."""

from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from services.ranker.features import INPUTS, columns_of
from services.ranker.fit import Basis, sigmoid

Array = NDArray[np.float64]

ACTIONS = ("like", "comment", "share", "follow")
WIDTHS = {  # of what is answered, by name
    "actions": len(ACTIONS),
    "log_value": 1,
    "score": 1,
    "reach": 3,
    "confidence": 1,
    "contributions": len(INPUTS),
}
MIN_LOG_GAP = 0.05  # between the quantiles of log reach, so that they never cross


@dataclass(frozen=True, slots=True)
class Heads:
    """Weights over the basis and its ones; the last entry of each is the intercept.

    `actions` is (basis + 1, 4), `reach` (basis + 1, 3) for p10, p50, p90 of log reach; `value` and
    `confidence` are (basis + 1,). `percentiles` are 101 increasing values of `value`, `mean` is the
    population's mean basis, (basis,), from which contributions count. `place` is what the place in
    a feed did to the log value, by `exposure.place_lines`: taken out, told, never served.
    """

    basis: Basis
    actions: Array
    value: Array
    reach: Array
    confidence: Array
    percentiles: Array
    mean: Array
    place: Array = field(default_factory=lambda: np.empty(0))

    def predict(self, rows: NDArray[np.float32]) -> dict[str, Array]:
        """Returns what the ONNX graph returns for (rows, columns) but the contributions."""
        design = self.basis.design(rows)
        value = self.log_value(design)
        low, middle, high = (design @ self.reach).T
        below = np.maximum(middle - low, MIN_LOG_GAP)
        above = np.maximum(high - middle, MIN_LOG_GAP)
        return {
            "actions": sigmoid(design @ self.actions),
            "log_value": value[:, None],
            "score": self.score(value)[:, None],
            "reach": np.exp(np.stack([middle - below, middle, middle + above], axis=1)),
            "confidence": sigmoid(design @ self.confidence)[:, None],
        }

    def log_value(self, design: Array) -> Array:
        """Returns the log of expected engagements per impression, (rows,)."""
        return np.asarray(design @ self.value)

    def score(self, log_value: Array) -> Array:
        """Returns the percentile, 0 to 100, of log values."""
        return np.asarray(np.interp(log_value, self.percentiles, np.arange(101.0)))

    def base_value(self) -> float:
        """Returns the log value of an average post."""
        return float(self.mean @ self.value[:-1] + self.value[-1])

    def groups(self) -> Array:
        """Returns which entries of the basis belong to which input, (basis, inputs), 0 or 1."""
        member = np.zeros((self.basis.size, len(INPUTS)))
        first_hinge = self.basis.size - len(self.basis.knots)
        for index, name in enumerate(INPUTS):
            own = columns_of(name)
            member[own, index] = 1.0
            member[first_hinge:, index] = np.isin(self.basis.columns, own)
        return member
