"""What a history foretells of later posts, and how far it comes true."""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from services.timing.rates import HOURS, Prior, RateModel
from serving.training.cells import EventsError
from serving.training.command import Say
from serving.training.compare import Interval, mean_over
from serving.training.posts import OwnPosts
from simulation.history import Histories

Array = NDArray[np.float64]

MIN_POSTS = 3  # later ones of a creator, or there is no order to foretell
PROGRESS_CREATORS = 1000  # between two lines that say how far it is
_FLOOR = 1e-3  # of what is told, so that a zero costs much but not all


@dataclass(frozen=True, slots=True)
class Foretold:
    """Later posts: `told` and `seen` engagement, each relative to the mean of its creator's."""

    creator: NDArray[np.int64]
    told: Array
    seen: Array

    def gain(self) -> Interval:
        """Returns nats a post over telling 1 for every hour: the share of engagements is told."""
        return mean_over(self.seen * np.log(self.told), np.ones(len(self.told)), self.creator)

    def gain_over(self, other: "Foretold") -> Interval:
        """Likewise, over what another model told of the same posts."""
        values = self.seen * np.log(self.told / other.told)
        return mean_over(values, np.ones(len(values)), self.creator)

    def correlation(self) -> Interval:
        """Returns the rank correlation within creators, each weighed by their posts."""
        creators = np.unique(self.creator)
        own = [self.creator == creator for creator in creators]
        if len(creators) == 1:
            return _resampled(self.told, self.seen)
        values = np.array([spearman(self.told[mine], self.seen[mine]) for mine in own])
        weight = np.array([float(mine.sum() - 1) for mine in own])
        return mean_over(values, weight, creators)


def histories_of(posts: OwnPosts) -> Histories:
    """Counts posts and engagements by creator and hour of week, each (creators, 168)."""
    creators = int(posts.creator.max()) + 1
    flat = posts.creator * HOURS + posts.hour_of_week
    gained = posts.actions.sum(axis=1).astype(np.float64)
    size = creators * HOURS
    counts = np.bincount(flat, minlength=size).astype(np.float64)
    sums = np.bincount(flat, gained, size).astype(np.float64)
    return Histories(counts.reshape(creators, HOURS), sums.reshape(creators, HOURS))


def curves_of(prior: Prior | None, earlier: OwnPosts, say: Say | None = None) -> Array:
    """Returns each creator's expected weekly curve, (creators, 168); None = plain smoothing.

    `say` is told now and then how far it is: a creator takes some milliseconds.
    """
    histories = histories_of(earlier)
    if prior is None:
        return np.tile(smoothed_days(histories), (1, 7))
    model = RateModel(prior)
    count = len(histories.posts)
    curves = np.empty((count, HOURS))
    for index, pair in enumerate(zip(histories.posts, histories.engagements, strict=True)):
        curves[index] = model.draw(*pair).mean(axis=0)
        if say and not (index + 1) % PROGRESS_CREATORS:
            say(f"{index + 1:,} of {count:,} creators …")
    return curves


def smoothed_days(histories: Histories) -> Array:
    """Returns circularly smoothed engagements per post by hour of day, (creators, 24)."""
    hours = np.arange(24)
    distance = np.abs(hours[:, None] - hours)
    kernel = np.exp(-0.5 * (np.minimum(distance, 24 - distance) / 1.2) ** 2)
    posts = histories.posts.reshape(-1, 7, 24).sum(axis=1)
    gained = histories.engagements.reshape(-1, 7, 24).sum(axis=1)
    mean = gained.sum(axis=1, keepdims=True) / np.maximum(posts.sum(axis=1, keepdims=True), 1.0)
    return np.asarray((gained @ kernel + 2 * mean) / (posts @ kernel + 2))


def foretell(curves: Array, later: OwnPosts) -> Foretold:
    """Compares curves of creators who were known before with how their later posts did.

    Raises `EventsError` when there is no creator to compare.
    """
    gained = later.actions.sum(axis=1).astype(np.float64)
    told, seen, creators = [], [], []
    for creator in np.unique(later.creator):
        mine = later.creator == creator
        if creator >= len(curves) or mine.sum() < MIN_POSTS or not gained[mine].sum():
            continue
        rates = np.maximum(curves[creator, later.hour_of_week[mine]], _FLOOR)
        told.append(rates / rates.mean())
        seen.append(gained[mine] / gained[mine].mean())
        creators.append(later.creator[mine])
    if not told:
        raise EventsError(f"no creator has {MIN_POSTS} later posts, one of them with engagements")
    return Foretold(np.concatenate(creators), np.concatenate(told), np.concatenate(seen))


def spearman(one: Array, other: Array) -> float:
    """Returns the rank correlation, ties sharing their mean rank; 0 where one does not vary."""
    ranks = _ranks(one), _ranks(other)
    if not (ranks[0].std() and ranks[1].std()):
        return 0.0
    return float(np.corrcoef(ranks[0], ranks[1])[0, 1])


def _ranks(values: Array) -> Array:
    _, index, counts = np.unique(values, return_inverse=True, return_counts=True)
    return np.asarray((np.cumsum(counts) - (counts - 1) / 2.0)[index])


def _resampled(told: Array, seen: Array) -> Interval:
    rng = np.random.default_rng(1)
    draws = [rng.integers(0, len(told), len(told)) for _ in range(200)]
    low, high = np.percentile([spearman(told[d], seen[d]) for d in draws], (10, 90))
    return Interval(spearman(told, seen), float(low), float(high))
