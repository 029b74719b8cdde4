"""What being shown did to the numbers of a post, told apart from what the post is.

*Place*: low places are looked at less, whoever stands there, so an action per impression tells of
the place too. The place enters every head as a nuisance (three lines over its logarithm), is fitted
with the rest, and is left out when served: a draft has no place yet. The intercept is then set so
that the mean over the places where posts did stand is kept.

*Exposure*: what was shown was chosen, by a ranker that may have known more than any input says.
A post that came to be shown with probability p stands for 1/p posts. Weights are cut off at
`MOST_WEIGHT`, for one post of p = 1e-6 would else outweigh all others, and have mean 1.
"""

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

Array = NDArray[np.float64]
Fit = Callable[[Array, Array, Array], Array]  # design, target, weight; one weight a column out

MOST_WEIGHT = 20.0  # of a post, before the weights are scaled to mean 1
PLACES = (3.0, 10.0)  # where the lines over log place bend
_SHIFTS = 12  # Newton steps of the intercept


@dataclass(frozen=True, slots=True)
class Exposure:
    """Where posts stood and how likely that was, each (posts,); NaN = not known."""

    position: Array  # 1 = first
    propensity: Array  # above 0 to 1

    @classmethod
    def unknown(cls, count: int) -> "Exposure":
        """Returns that nothing is known: everything is fitted as if there were neither bias."""
        return cls(np.full(count, np.nan), np.full(count, np.nan))

    def weights(self) -> Array:
        """Returns inverse propensities, cut off, of mean 1; 1 where none is known."""
        return inverse_weights(self.propensity)

    def places(self, weight: Array) -> Array:
        """Returns nuisance columns of weighted mean 0; none when no place is known, (posts, 0)."""
        known = np.isfinite(self.position)
        if not known.any():
            return np.empty((len(self.position), 0))
        columns = place_lines(np.where(known, self.position, 1.0))
        mean = np.average(columns[known], axis=0, weights=weight[known])
        return np.asarray(np.where(known[:, None], columns - mean, 0.0))


def place_lines(position: Array) -> Array:
    """Returns log place and its bends, (rows, 1 + bends), 0 for the first place."""
    log_place = np.log(position)
    return np.stack([log_place, *(np.maximum(0.0, log_place - np.log(p)) for p in PLACES)], axis=1)


def inverse_weights(propensity: Array, most: float = MOST_WEIGHT) -> Array:
    """Returns 1 / propensity, cut off at `most`, scaled to mean 1; NaN counts as the mean."""
    known = np.isfinite(propensity)
    if not known.any():
        return np.ones(len(propensity))
    weight = np.minimum(most, 1.0 / np.where(known, propensity, 1.0))
    return np.where(known, weight / weight[known].mean(), 1.0)


def effective_count(weight: Array) -> float:
    """Returns of how many equally weighed rows a mean is as uncertain (Kish)."""
    return float(weight.sum() ** 2 / (weight**2).sum())


def fit_apart(fit: Fit, mean: Callable[[Array], Array], parts: "Parts") -> tuple[Array, Array]:
    """Fits target on design and places; returns the design's weights and the places'.

    `mean` maps linear values to means (the inverse link). The intercept is the last weight.
    """
    count = parts.places.shape[1]
    if not count:
        return fit(parts.design, parts.target, parts.weight), np.empty(0)
    found = fit(np.hstack([parts.places, parts.design]), parts.target, parts.weight)
    nuisance, weights = found[:count], found[count:].copy()
    weights[-1] += _shift(mean, parts.design @ weights, parts.places @ nuisance, parts.weight)
    return weights, nuisance


@dataclass(frozen=True, slots=True)
class Parts:
    """What a head is fitted to; `design` is (rows, basis + 1), `places` (rows, nuisance)."""

    design: Array
    places: Array
    target: Array
    weight: Array


def _shift(mean: Callable[[Array], Array], linear: Array, nuisance: Array, weight: Array) -> float:
    """Returns what to add to `linear` so that the weighted mean is as with the nuisance."""
    wanted = np.average(mean(linear + nuisance), weights=weight)
    shift = 0.0
    for _ in range(_SHIFTS):  # means of small rates are nearly exponential in the shift
        shift += float(np.log(wanted / np.average(mean(linear + shift), weights=weight)))
    return shift
