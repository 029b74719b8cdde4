"""Engagement by hour of week: a mixed prior, the user's own posts, and draws from what they leave
open.

The prior is a bag of weekly curves learned from a population; half of it is the same curves rotated
at random, so that a population that was misread cannot outvote a user's own posts. A user's posts
weigh the curves by a negative binomial likelihood, tempered because curves are never quite right.
The curve drawn is then corrected by the ratio of what the user's posts gained to what it promised:
first per hour of the day over all days, then per cell of the week, each smoothed over the clock and
drawn towards 1 with the weight of a few posts. Rates are per *post*, so that the habit of posting
at an hour does not pass for an audience. Doubt is told by drawing: curves by their weight, posts by
a log-normal weight each (a smooth Bayesian bootstrap). Random numbers are the same for every user,
so an answer depends on nothing but its own request.
"""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

Array = NDArray[np.float64]

HOURS = 168
DRAW_COUNT = 200
TEMPER = 0.7  # of the likelihood, 0 to 1; what the curves cannot express must not look certain
HOUR_PRIOR_POSTS = 4.0  # weight of the prior against the posts near an hour of the day
CELL_PRIOR_POSTS = 10.0  # likewise against those near a cell of the week
BANDWIDTH_H = 1.7  # of the clock's Gaussian kernel
SAME_KIND_OF_DAY = 0.6  # weight of a weekday's posts for another weekday, of Saturday's for Sunday
OTHER_KIND_OF_DAY = 0.3
_TINY = 1e-9


@dataclass(frozen=True, slots=True)
class Prior:
    """Weekly curves of a population: `curves` is (count, 168) of row mean 1, `weights` sums to 1.

    `dispersion` is the size of the negative binomial of one post's engagement: the smaller, the
    more posts of the same hour differ. `spread` is (2, points): at so many posts the log of a rate
    has still this standard deviation beyond what the draws know, as calibrated in training.
    """

    curves: Array
    weights: Array
    dispersion: float
    spread: Array


class RateModel:
    """Draws weekly curves given a user's posts. Nothing changes in it: safe on any thread."""

    def __init__(self, prior: Prior) -> None:
        self._prior = prior
        self._log_weights = np.log(prior.weights)
        self._log_curves = np.log(prior.curves)
        rng = np.random.default_rng(168)
        self._normals = _antithetic(rng.standard_normal((DRAW_COUNT // 2, HOURS)))
        self._quantiles = (np.arange(DRAW_COUNT) + 0.5) / DRAW_COUNT
        self._order = rng.permutation(DRAW_COUNT)
        self._field = _field(rng)

    def draw(self, posts: Array, engagements: Array) -> Array:
        """Returns `DRAW_COUNT` curves, (draws, 168), each of mean 1, equally likely.

        `posts` and `engagements` are (168,) counts, finite and >= 0.
        """
        engagements = np.where(posts > 0, engagements, 0.0)
        curves = self._prior.curves[self._pick(self.weights(posts, engagements))]
        if posts.sum() and engagements.sum():
            jitter = self._jitter(posts)
            curves = _corrected(curves, posts * jitter, engagements * jitter)
        return self._spread_out(curves, float(posts.sum()))

    def _spread_out(self, curves: Array, post_count: float) -> Array:
        known_at, sigmas = self._prior.spread
        sigma = np.interp(np.log1p(post_count), np.log1p(known_at), sigmas)
        return unit_mean(curves * np.exp(sigma * self._field))

    def weights(self, posts: Array, engagements: Array) -> Array:
        """Returns the posterior weight of each curve; its level is the one that fits the total.

        An hour without posts must have no engagements.
        """
        seen = posts > 0
        posts, engagements, curves = posts[seen], engagements[seen], self._prior.curves[:, seen]
        total, size = engagements.sum(), self._prior.dispersion
        level = np.maximum(total / np.maximum(curves @ posts, _TINY), _TINY)
        log_mean = np.log(level) * total + self._log_curves[:, seen] @ engagements
        log_spread = np.log(level[:, None] * curves + size) @ (engagements + posts * size)
        log_likelihood = log_mean - log_spread
        log_weight = self._log_weights + TEMPER * log_likelihood
        weight = np.exp(log_weight - log_weight.max())
        return np.asarray(weight / weight.sum())

    def _pick(self, weights: Array) -> NDArray[np.int64]:
        edges = np.cumsum(weights)
        picked = np.searchsorted(edges / edges[-1], self._quantiles)
        return np.asarray(np.minimum(picked, len(weights) - 1)[self._order], dtype=np.int64)

    def _jitter(self, posts: Array) -> Array:
        """Draws positive weights of mean 1 for each cell's posts; one post varies as much as it
        weighs.
        """
        variance = np.log1p(np.where(posts > 0, 1.0 / np.maximum(posts, _TINY), 0.0))
        return np.asarray(np.exp(self._normals * np.sqrt(variance) - 0.5 * variance))


def unit_mean(curves: Array) -> Array:
    """Scales (rows, 168) curves to a mean of 1 each."""
    return np.asarray(curves / curves.mean(axis=1, keepdims=True))


def _corrected(curves: Array, posts: Array, engagements: Array) -> Array:
    """Corrects (draws, 168) curves by the posts of each draw, also (draws, 168)."""
    shape = (-1, 7, 24)
    gained = engagements.reshape(shape)
    curves = _ratio(
        curves.reshape(shape), posts.reshape(shape), gained, np.ones((7, 7)), HOUR_PRIOR_POSTS
    )
    curves = _ratio(curves, posts.reshape(shape), gained, _DAYS, CELL_PRIOR_POSTS)
    return unit_mean(curves.reshape(-1, HOURS))


def _ratio(curves: Array, posts: Array, gained: Array, days: Array, prior_posts: float) -> Array:
    promised = posts * curves
    level = gained.sum(axis=(1, 2)) / np.maximum(promised.sum(axis=(1, 2)), _TINY)
    level = np.maximum(level, _TINY)[:, None, None]
    near_gained = days @ gained @ _CLOCK
    near_promised = days @ promised @ _CLOCK
    ratio = (near_gained + prior_posts * level) / (level * (near_promised + prior_posts))
    return np.asarray(curves * ratio)


def _clock() -> Array:
    hours = np.arange(24)
    distance = np.abs(hours[:, None] - hours)
    distance = np.minimum(distance, 24 - distance)
    return np.asarray(np.exp(-0.5 * (distance / BANDWIDTH_H) ** 2))


def _days() -> Array:
    is_weekend = np.arange(7) >= 5
    same = is_weekend[:, None] == is_weekend
    weights = np.where(same, SAME_KIND_OF_DAY, OTHER_KIND_OF_DAY)
    np.fill_diagonal(weights, 1.0)
    return weights


_CLOCK = _clock()
_DAYS = _days()


def _field(rng: np.random.Generator) -> Array:
    """Draws noise over the week, (draws, 168) of unit deviation: neighbouring hours err alike."""
    white = rng.standard_normal((DRAW_COUNT // 2, 7, 24))
    smooth = np.asarray(white @ _CLOCK).reshape(-1, HOURS)
    return _antithetic(smooth / np.sqrt((_CLOCK**2).sum(axis=0)[0]))


def _antithetic(half: Array) -> Array:
    """Adds the opposite of each row, so that the noise has a mean of exactly 0."""
    return np.concatenate([half, -half])
