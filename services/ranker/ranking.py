"""The order of a feed: value of the expected actions, then the network, then diversity of authors.

Each candidate's value is its own; only the diversity looks at the others. Equal values are ordered
by a hash of post, viewer and seed, so the order of the request does not matter. A candidate whose
value is not finite stands last. Everything is a sort or a column operation: n log n.
"""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from services.ranker.weights import WeightProfile

Array = NDArray[np.float64]
Ranks = NDArray[np.int64]

NOBODY = np.empty(0, dtype=np.int64)


@dataclass(frozen=True, slots=True)
class Step:
    """One adjustment: `factor` and the ranks before and after it, by candidate."""

    stage: str
    factor: Array
    rank_before: Ranks
    rank_after: Ranks


@dataclass(frozen=True, slots=True)
class Ranking:
    """`order` lists candidates, best first; `scores` and `steps` go by candidate.

    There are no steps where nobody asked for them.
    """

    order: Ranks
    scores: Array
    steps: tuple[Step, ...]


def rank(
    values: Array,
    author_ids: NDArray[np.int64],
    in_network: NDArray[np.bool_],
    profile: WeightProfile,
    ties: NDArray[np.uint64],
    shown: NDArray[np.int64] = NOBODY,
    *,
    explains: bool = True,
) -> Ranking:
    """Ranks candidates by `values`, (candidates,), >= 0 or not finite; `ties` orders equals.

    `shown` has the author of each post that stands before the candidates, in no order.
    """
    network = np.where(in_network, 1.0, profile.out_of_network)
    scores = values * network
    by_network = _order(scores, ties)
    diversity = np.empty_like(values)
    authors = author_ids[by_network]
    diversity[by_network] = profile.diversity(earlier_of_same(authors) + count_in(shown, authors))
    final = scores * diversity
    by_diversity = _order(final, ties)
    steps: tuple[Step, ...] = ()
    if explains:
        orders = (_order(values, ties), by_network, by_diversity)
        first, second, third = (_ranks(order) for order in orders)
        steps = (
            Step("out_of_network", network, first, second),
            Step("author_diversity", diversity, second, third),
        )
    return Ranking(by_diversity, np.where(np.isfinite(final), final, np.nan), steps)


def tie_break(post_ids: NDArray[np.int64], viewer_id: int, seed: int) -> NDArray[np.uint64]:
    """Returns a hash of each post for this viewer and seed (splitmix64)."""
    salt = np.array([viewer_id, seed], dtype=np.int64).astype(np.uint64)
    mixed = _mix(_mix(salt[:1]) ^ salt[1:])
    return _mix(post_ids.astype(np.uint64) ^ mixed)


def earlier_of_same(ids: NDArray[np.int64]) -> Ranks:
    """Returns how many equal ids stand before each.

    NumPy sorts numbers with vector instructions unless it must be stable: two such sorts, by id and
    then by place within the id, take two thirds of the time of a stable one.
    """
    count = len(ids)
    grouped = np.argsort(ids)
    starts = np.flatnonzero(np.r_[True, np.diff(ids[grouped]) != 0])[:count]
    lengths = np.diff(np.r_[starts, count])
    group = np.repeat(np.arange(len(starts)), lengths)
    grouped = np.sort(group * count + grouped) - group * count
    earlier = np.empty(count, dtype=np.int64)
    earlier[grouped] = np.arange(count) - np.repeat(starts, lengths)
    return earlier


def count_in(shown: NDArray[np.int64], ids: NDArray[np.int64]) -> Ranks:
    """Returns how often each id is among `shown`."""
    ordered = np.sort(shown)
    right, left = (np.searchsorted(ordered, ids, side) for side in ("right", "left"))
    return np.asarray(right - left, dtype=np.int64)


def _order(scores: Array, ties: NDArray[np.uint64]) -> Ranks:
    descending = np.where(np.isfinite(scores), -scores, np.inf)
    order = np.argsort(descending)  # a quarter of the time of lexsort, which then orders equals
    ordered = descending[order]
    is_equal = np.r_[False, ordered[1:] == ordered[:-1], False]  # to the one before; to the next
    shared = (is_equal[1:] | is_equal[:-1])[: len(order)]
    some = order[shared]
    order[shared] = some[np.lexsort((ties[some], descending[some]))]
    return np.asarray(order, dtype=np.int64)


def _ranks(order: Ranks) -> Ranks:
    ranks = np.empty_like(order)
    ranks[order] = np.arange(len(order))
    return ranks


def _mix(values: NDArray[np.uint64]) -> NDArray[np.uint64]:
    values = values + np.uint64(0x9E3779B97F4A7C15)
    values = (values ^ (values >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
    values = (values ^ (values >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    return np.asarray(values ^ (values >> np.uint64(31)))
