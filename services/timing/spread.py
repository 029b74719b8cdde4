"""How much wider than the draws the truth is: calibrated so that 80 % intervals cover 80 %.

Calibrated on creators of the training family of whom half had their curves rotated at random, so
that the intervals are honest about users whom the prior misreads too; another family is not used.
"""

import numpy as np
from numpy.typing import NDArray

from services.timing.rates import Prior, RateModel
from simulation.audience import Family, draw_curves
from simulation.history import draw_histories

Array = NDArray[np.float64]

POSTS = (0, 3, 10, 30, 100, 300, 1000)
CREATORS = 160  # at each number of posts
COVERAGE = 0.815  # a little above 80 %, for a family that is not like this one is covered less
_STEPS = 14  # of the bisection


def fit_spread(rng: np.random.Generator, prior: Prior) -> Array:
    """Returns (2, points): numbers of posts, and the deviation that makes intervals honest there.

    `prior.spread` is ignored.
    """
    return np.array([POSTS, [_fit(rng, prior, posts) for posts in POSTS]], dtype=np.float64)


def _fit(rng: np.random.Generator, prior: Prior, posts: int) -> float:
    curves = draw_curves(rng, CREATORS, Family.A)
    for row in range(0, CREATORS, 2):
        curves[row] = np.roll(curves[row], rng.integers(1, 24))
    histories = draw_histories(rng, curves, posts)
    low, high = 0.0, 1.5
    for _ in range(_STEPS):
        sigma = (low + high) / 2
        model = RateModel(_with_spread(prior, sigma))
        covered = np.mean(
            [
                coverage(model.draw(*history), curve)
                for *history, curve in zip(
                    histories.posts, histories.engagements, curves, strict=True
                )
            ]
        )
        low, high = (sigma, high) if covered < COVERAGE else (low, sigma)
    return (low + high) / 2


def coverage(draws: Array, curve: Array) -> float:
    """Returns the share of the hours whose true rate lies between the draws' p10 and p90."""
    low, high = np.percentile(draws, (10, 90), axis=0)
    return float(((low <= curve) & (curve <= high)).mean())


def _with_spread(prior: Prior, sigma: float) -> Prior:
    spread = np.array([[0.0], [sigma]])
    return Prior(prior.curves, prior.weights, prior.dispersion, spread)
