"""Regressions on a shared basis, each solved by Newton steps on a few dozen weights.

The basis of a row is the row itself and hinges of its continuous columns, so every head is additive
over inputs: a curve for each, no interactions. That keeps a contribution exact and a heads' file of
a few kilobytes. All arrays are float64; `design` is (rows, basis) with a last column of ones.
"""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from services.ranker.features import COLUMN_COUNT, PLAIN
from serving.form import FORM

Array = NDArray[np.float64]

CONTINUOUS = (
    *("quality_score", "follower_count", "avg_engagement", "caption_length", "tag_count"),
    *FORM,
)
KNOT_PERCENTILES = (8.0, 25.0, 45.0, 65.0, 85.0, 96.0)
# Average posts that speak for each weight but the intercept being 0: what k posts alone show counts
# k / (k + 5). Posts vary by about a nat (deviation), and effects by about half of one.
RIDGE_POSTS = 5.0
_STEPS = 60
_STRIDE = 1.0  # by which one step may move a row's linear value: rare actions overshoot without
_QUANTILE_STEPS = 40


@dataclass(frozen=True, slots=True)
class Basis:
    """Hinges `max(0, row[column] - knot)`: `columns` and `knots` are (hinges,)."""

    columns: NDArray[np.int64]
    knots: Array

    def design(self, rows: NDArray[np.float32]) -> Array:
        """Returns (rows, `COLUMN_COUNT` + hinges + 1): the rows, their hinges, and ones."""
        plain = rows.astype(np.float64)
        hinges = np.maximum(0.0, plain[:, self.columns] - self.knots)
        return np.concatenate([plain, hinges, np.ones((len(rows), 1))], axis=1)

    @property
    def size(self) -> int:
        """Entries of the basis without the ones."""
        return COLUMN_COUNT + len(self.knots)


def fit_basis(rows: NDArray[np.float32]) -> Basis:
    """Places knots at percentiles of each continuous column; equal ones are kept once.

    None is placed where nothing lies beyond it: there is nothing to bend.
    """
    columns: list[int] = []
    knots: list[float] = []
    for name in CONTINUOUS:
        column = PLAIN.index(name)
        values = rows[:, column].astype(np.float64)
        places = np.unique(np.percentile(values, KNOT_PERCENTILES))
        places = places[places < values.max()]
        columns += [column] * len(places)
        knots += places.tolist()
    return Basis(np.array(columns), np.array(knots))


def logistic(design: Array, share: Array, weight: Array) -> Array:
    """Fits P = sigmoid(design @ w) to shares in 0..1 of `weight` trials each."""
    mean = np.average(share, weights=weight)
    coefficients = np.zeros(design.shape[1])
    coefficients[-1] = np.log(mean / (1 - mean))
    for _ in range(_STEPS):
        predicted = sigmoid(design @ coefficients)
        curvature = weight * predicted * (1 - predicted)
        step = _newton(design, weight * (share - predicted), curvature, coefficients)
        step = _shortened(design, step)
        coefficients += step
        if np.abs(step).max() < 1e-8:
            break
    return coefficients


def log_linear(
    design: Array, rate: Array, weight: Array, ridge_posts: float = RIDGE_POSTS
) -> Array:
    """Fits E[rate] = exp(design @ w) by Poisson quasi-likelihood: calibrated in the mean."""
    coefficients = np.zeros(design.shape[1])
    coefficients[-1] = np.log(np.average(rate, weights=weight))
    for _ in range(_STEPS):
        predicted = np.exp(design @ coefficients)
        gradient, curvature = weight * (rate - predicted), weight * predicted
        step = _newton(design, gradient, curvature, coefficients, ridge_posts)
        step = _shortened(design, step)
        coefficients += step
        if np.abs(step).max() < 1e-8:
            break
    return coefficients


def quantile(design: Array, target: Array, level: float) -> Array:
    """Fits the `level` quantile of `target` as design @ w (majorise-minimise, Hunter & Lange)."""
    coefficients = np.zeros(design.shape[1])
    coefficients[-1] = np.quantile(target, level)
    for _ in range(_QUANTILE_STEPS):
        residual = target - design @ coefficients
        curvature = 1.0 / (1e-3 + np.abs(residual))
        gradient = curvature * residual + (2 * level - 1)
        step = _newton(design, gradient, curvature, coefficients)
        coefficients += step
        if np.abs(step).max() < 1e-3:
            break
    return coefficients


def sigmoid(logits: Array) -> Array:
    """Returns probabilities of log-odds."""
    return np.asarray(1.0 / (1.0 + np.exp(-logits)))


def _shortened(design: Array, step: Array) -> Array:
    return np.asarray(step * min(1.0, _STRIDE / max(np.abs(design @ step).max(), 1e-12)))


def _newton(
    design: Array,
    gradient: Array,
    curvature: Array,
    coefficients: Array,
    ridge_posts: float = RIDGE_POSTS,
) -> Array:
    ridge = np.full(len(coefficients), ridge_posts * curvature.mean())
    ridge[-1] = 0.0
    hessian = (design * curvature[:, None]).T @ design + np.diag(ridge)
    return np.asarray(np.linalg.solve(hessian, design.T @ gradient - ridge * coefficients))
