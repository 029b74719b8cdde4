"""Histories: when creators posted (by habit, not by audience) and what each post gained.

A creator posts at one or two habitual hours, on some days more than on others, and a part of the
time at random; the habit knows nothing of the audience, which is what makes a plain histogram of
engagement misleading. A post's engagement is Poisson around level * audience rate * quality, with
log-normal quality of unit mean.
"""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from simulation.audience import HOURS

QUALITY_SIGMA = 0.5  # of the log of a post's quality: the 90th percentile gains 3.6 times the 10th
LEVEL_MEDIAN = 20.0  # engagements of an average post of the median creator
LEVEL_SIGMA = 1.0  # of the log of a creator's level


@dataclass(frozen=True, slots=True)
class Histories:
    """Histories of many creators by local hour of week: both arrays are (creators, 168)."""

    posts: NDArray[np.float64]
    engagements: NDArray[np.float64]


def draw_habits(rng: np.random.Generator, count: int) -> NDArray[np.float64]:
    """Draws how a creator's posts spread over the week, (count, 168), rows of sum 1."""
    return np.stack([_habit(rng) for _ in range(count)]) if count else np.empty((0, HOURS))


def draw_levels(rng: np.random.Generator, count: int) -> NDArray[np.float64]:
    """Draws the engagements of an average post of each creator, (count,)."""
    return LEVEL_MEDIAN * rng.lognormal(0.0, LEVEL_SIGMA, count)


def draw_histories(
    rng: np.random.Generator, curves: NDArray[np.float64], post_count: int
) -> Histories:
    """Draws `post_count` posts for each of the (creators, 168) audience curves."""
    creators = len(curves)
    cells = posting_cells(rng, draw_habits(rng, creators), post_count)
    quality = rng.lognormal(-0.5 * QUALITY_SIGMA**2, QUALITY_SIGMA, (creators, post_count))
    level = draw_levels(rng, creators)[:, None]
    gained = rng.poisson(level * np.take_along_axis(curves, cells, axis=1) * quality)
    flat = (cells + HOURS * np.arange(creators)[:, None]).ravel()
    size = creators * HOURS
    posts = np.bincount(flat, minlength=size).reshape(creators, HOURS)
    engagements = np.bincount(flat, gained.ravel(), size).reshape(creators, HOURS)
    return Histories(posts.astype(np.float64), engagements.astype(np.float64))


def posting_cells(
    rng: np.random.Generator, habits: NDArray[np.float64], post_count: int
) -> NDArray[np.int64]:
    """Draws the hours of week of posts, (creators, post_count), from (creators, 168) habits."""
    edges = np.cumsum(habits, axis=1)
    draws = rng.random((len(habits), post_count)) * edges[:, -1:]
    cells = [
        np.searchsorted(edge, draw, side="right") for edge, draw in zip(edges, draws, strict=True)
    ]
    return np.minimum(np.stack(cells), HOURS - 1) if cells else np.empty((0, post_count), np.int64)


def _habit(rng: np.random.Generator) -> NDArray[np.float64]:
    centres = rng.uniform(7.0, 24.0, int(rng.integers(1, 3)))
    angle = (np.arange(24)[:, None] - centres) * (2 * np.pi / 24)
    by_hour = np.exp(rng.uniform(1.5, 4.0) * (np.cos(angle) - 1.0)).sum(axis=1)
    awake = np.where((np.arange(24) >= 2) & (np.arange(24) < 6), 0.2, 1.0)
    random_share = rng.uniform(0.3, 0.8)
    by_hour = (1 - random_share) * by_hour / by_hour.sum() + random_share * awake / awake.sum()
    week = np.outer(rng.dirichlet(np.full(7, 4.0)), by_hour).reshape(HOURS)
    return np.asarray(week / week.sum(), dtype=np.float64)
