"""What a good picture or a video does to engagement: factors, learned apart from the hour.

Within each creator's posts the log of the engagement is regressed on the picture's score (a line
through seven knots) and on video; resampling creators gives the interval. Quality never moves the
best hour, only how much the post gains in it.
"""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from serving.training.posts import OwnPosts
from simulation.feed import FeedTable

Array = NDArray[np.float64]

LIFT_CAP = 1.30  # the largest factor that is told, whatever was learned
KNOTS = np.array([0.0, 3.0, 4.5, 5.5, 6.5, 8.0, 10.0])
REFERENCE_SCORE = 5.5  # a picture of this score has the factor 1: the population's mean
MIN_ENGAGEMENTS = 20.0  # mean per post of a creator; below it logs of counts mislead
RESAMPLES = 60
PERCENTILES = (10.0, 50.0, 90.0)


@dataclass(frozen=True, slots=True)
class Lifts:
    """Log factors, p10, p50, p90: `quality` is (3, 7) at `KNOTS`, `video` is (3,)."""

    quality: Array
    video: Array

    def of_quality(self, score: float | None) -> tuple[float, float, float]:
        """Returns p10, p50, p90 of the factor of a score of 0 to 10; 1 when there is none."""
        if score is None:
            return (1.0, 1.0, 1.0)
        return _capped([float(np.interp(score, KNOTS, row)) for row in self.quality])

    def of_video(self, has_video: bool) -> tuple[float, float, float]:
        """Returns p10, p50, p90 of the factor of a video; 1 without one."""
        return _capped(self.video.tolist()) if has_video else (1.0, 1.0, 1.0)


def fit_lifts(rng: np.random.Generator, feed: FeedTable | OwnPosts) -> Lifts:
    """Fits the factors on posts of which `creator` numbers the creators from 0."""
    gained = feed.actions.sum(axis=1).astype(np.float64)
    creators = int(feed.creator.max()) + 1
    typical = np.bincount(feed.creator, gained, creators) / np.bincount(feed.creator)
    used = typical[feed.creator] >= MIN_ENGAGEMENTS
    design = np.column_stack([_hat(feed.quality_score), feed.has_video.astype(np.float64)])[used]
    creator, log_gained = feed.creator[used], np.log(gained[used] + 0.5)
    grams, moments = _by_creator(creator, _centred(creator, design), _centred(creator, log_gained))
    fits = [_solve(grams.sum(axis=0), moments.sum(axis=0))]
    for _ in range(RESAMPLES):
        chosen = rng.integers(0, len(grams), len(grams))
        fits.append(_solve(grams[chosen].sum(axis=0), moments[chosen].sum(axis=0)))
    spread = np.percentile(np.stack(fits), PERCENTILES, axis=0)
    return Lifts(quality=spread[:, :-1], video=spread[:, -1])


def _hat(score: Array) -> Array:
    """Returns linear-interpolation weights at `KNOTS`, (rows, knots)."""
    return np.stack([np.interp(score, KNOTS, unit) for unit in np.eye(len(KNOTS))], axis=1)


def _centred(creator: NDArray[np.int64], values: Array) -> Array:
    """Subtracts each creator's mean, column by column."""
    _, index, counts = np.unique(creator, return_inverse=True, return_counts=True)
    columns = values.reshape(len(values), -1)
    sums = np.stack([np.bincount(index, column) for column in columns.T], axis=1)
    return np.asarray((columns - (sums / counts[:, None])[index]).reshape(values.shape))


def _by_creator(creator: NDArray[np.int64], design: Array, target: Array) -> tuple[Array, Array]:
    starts = np.flatnonzero(np.r_[True, np.diff(creator) != 0])
    outer = design[:, :, None] * design[:, None, :]
    return np.add.reduceat(outer, starts), np.add.reduceat(design * target[:, None], starts)


def _solve(gram: Array, moment: Array) -> Array:
    ridge = 1e-3 * np.trace(gram) / len(gram) * np.eye(len(gram))
    effect = np.linalg.solve(gram + ridge, moment)
    effect[:-1] -= np.interp(REFERENCE_SCORE, KNOTS, effect[:-1])
    return np.asarray(effect)


def _capped(logs: list[float]) -> tuple[float, float, float]:
    low, middle, high = (min(LIFT_CAP, float(np.exp(value))) for value in logs)
    return low, middle, high
