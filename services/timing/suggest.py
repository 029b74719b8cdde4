"""From drawn curves to slots: what each permitted hour promises and how likely it is the best."""

from dataclasses import dataclass
from datetime import datetime
from enum import Enum

import numpy as np
from numpy.typing import NDArray

Array = NDArray[np.float64]

OWN_HISTORY_POSTS = 50.0  # from here on even users unlike the training population are well placed


class Evidence(Enum):
    POPULATION = "population"
    SHRUNK = "shrunk"
    OWN_HISTORY = "own history"


@dataclass(frozen=True, slots=True)
class Slot:
    """One permitted hour; `relative_engagement` is p10, p50, p90, 1 = the user's average hour."""

    start: datetime
    hour_of_week: int
    relative_engagement: tuple[float, float, float]
    probability_best: float


def rank_slots(draws: Array, starts: dict[int, datetime], max_slots: int) -> list[Slot]:
    """Returns the best `max_slots` of the hours in `starts`, best first.

    `draws` is (draws, 168); `starts` maps at least one hour of the week to its start. The order is
    that of the expected engagement; equals come in the order of their hours.
    """
    hours = np.array(sorted(starts))
    permitted = draws[:, hours]
    best = np.bincount(permitted.argmax(axis=1), minlength=len(hours)) / len(draws)
    order = np.argsort(-permitted.mean(axis=0), kind="stable")[:max_slots]
    spread = np.percentile(permitted[:, order], (10, 50, 90), axis=0)
    return [
        Slot(
            start=starts[int(hours[index])],
            hour_of_week=int(hours[index]),
            relative_engagement=(spread[0, place], spread[1, place], spread[2, place]),
            probability_best=float(best[index]),
        )
        for place, index in enumerate(order)
    ]


def probability_within_hour(draws: Array, starts: dict[int, datetime], hour: int) -> float:
    """Returns how likely the best permitted hour of day is `hour`, give or take one, 0 to 1.

    `draws` is (draws, 168); an hour of day is as good as its best permitted hour of the week.
    """
    permitted = np.full_like(draws, -np.inf)
    hours = np.array(sorted(starts))
    permitted[:, hours] = draws[:, hours]
    best = permitted.reshape(len(draws), 7, 24).max(axis=1).argmax(axis=1)
    distance = np.abs(best - hour)
    return float(np.mean(np.minimum(distance, 24 - distance) <= 1))


def evidence_of(post_count: float) -> Evidence:
    """Says what an answer about a user with `post_count` posts rests on."""
    if post_count <= 0:
        return Evidence.POPULATION
    return Evidence.OWN_HISTORY if post_count >= OWN_HISTORY_POSTS else Evidence.SHRUNK
