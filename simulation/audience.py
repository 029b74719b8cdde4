"""Audiences: how much a post gains by the hour of the week in which it goes out.

A curve is 168 relative rates, Monday 00:00 first, in the creator's local time, of mean 1. Two
families are known. Family A has four archetypes (evening, commute, lunch, night) whose peaks shift
by about an hour from user to user and later at the weekend; it stands for the population that
models are trained on. Family B has one to three peaks at uniform hours and other sharpness; it
stands for a population that the training misread. What is random here is the person, so a model may
learn A and must survive B.
"""

from enum import Enum

import numpy as np
from numpy.typing import NDArray

HOURS = 168
_HOUR_OF_DAY = np.arange(24)
_WEEKEND = np.arange(7) >= 5


class Family(Enum):
    A = "A"
    B = "B"


# Peak hours and the weight of each, per archetype; how common the archetype is.
_ARCHETYPES: tuple[tuple[tuple[float, float], ...], ...] = (
    ((20.0, 1.0), (13.0, 0.25)),
    ((8.0, 0.75), (18.0, 1.0)),
    ((12.0, 1.0), (21.0, 0.6)),
    ((23.0, 1.0), (16.0, 0.45)),
)
_ARCHETYPE_SHARES = (0.31, 0.27, 0.22, 0.20)


def draw_curves(rng: np.random.Generator, count: int, family: Family) -> NDArray[np.float64]:
    """Draws audience curves, (count, 168), positive, each of mean 1."""
    draw = _draw_archetype if family is Family.A else _draw_uniform
    return np.stack([draw(rng) for _ in range(count)]) if count else np.empty((0, HOURS))


def best_hour_of_day(curves: NDArray[np.float64]) -> NDArray[np.int64]:
    """Returns the best hour of the day, 0 to 23, of (count, 168) curves, weekdays averaged out."""
    return np.asarray(curves.reshape(-1, 7, 24).mean(axis=1).argmax(axis=1), dtype=np.int64)


def _draw_archetype(rng: np.random.Generator) -> NDArray[np.float64]:
    peaks = _ARCHETYPES[rng.choice(len(_ARCHETYPES), p=_ARCHETYPE_SHARES)]
    shift = rng.normal(0.0, 0.8)
    hours = [hour + shift + rng.normal(0.0, 0.6) for hour, _ in peaks]
    weights = [weight * rng.lognormal(0.0, 0.25) for _, weight in peaks]
    return _week(
        rng, hours, weights, sharpness=rng.uniform(4.0, 7.0), floor=rng.uniform(0.15, 0.35)
    )


def _draw_uniform(rng: np.random.Generator) -> NDArray[np.float64]:
    count = int(rng.integers(1, 4))
    hours = list(rng.uniform(0.0, 24.0, count))
    weights = list(rng.uniform(0.3, 1.0, count))
    return _week(rng, hours, weights, sharpness=rng.uniform(3.0, 9.0), floor=rng.uniform(0.1, 0.35))


def _week(
    rng: np.random.Generator,
    hours: list[float],
    weights: list[float],
    sharpness: float,
    floor: float,
) -> NDArray[np.float64]:
    """Builds a week from von Mises bumps on a floor; at the weekend they lie later and weigh
    differently.
    """
    delay = np.where(_WEEKEND, rng.uniform(0.0, 1.5), 0.0)
    level = np.exp(np.where(_WEEKEND, rng.normal(0.0, 0.25), 0.0) + rng.normal(0.0, 0.08, 7))
    angle = (_HOUR_OF_DAY[None, :, None] - np.asarray(hours) - delay[:, None, None]) * (
        2 * np.pi / 24
    )
    bumps = np.exp(sharpness * (np.cos(angle) - 1.0)) @ np.asarray(weights)
    curve = ((floor + bumps) * level[:, None]).reshape(HOURS)
    return np.asarray(curve / curve.mean(), dtype=np.float64)
