"""Is one model better than another on later posts, or was it chance? Creators are resampled."""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

Array = NDArray[np.float64]
RESAMPLES = 1000


@dataclass(frozen=True, slots=True)
class Interval:
    """A mean with its 80 % interval."""

    mean: float
    p10: float
    p90: float

    def __str__(self) -> str:
        return f"{self.mean:.4f} (80 %: {self.p10:.4f} to {self.p90:.4f})"


def mean_over(values: Array, weight: Array, group: NDArray[np.int64]) -> Interval:
    """Averages rows by weight; the interval resamples whole groups, or rows of one only group.

    Posts of one creator err alike, so a row of its own would tell too much.
    """
    rng = np.random.default_rng([8, 1])  # a stream that no caller draws from
    _, index = np.unique(group, return_inverse=True)
    if not index.any():
        index = np.arange(len(values))
    sums = np.bincount(index, values * weight), np.bincount(index, weight)
    draws = rng.multinomial(len(sums[0]), np.full(len(sums[0]), 1 / len(sums[0])), RESAMPLES)
    means = (draws @ sums[0]) / np.maximum(draws @ sums[1], 1e-300)
    low, high = np.percentile(means, (10, 90))
    return Interval(float(sums[0].sum() / sums[1].sum()), float(low), float(high))
