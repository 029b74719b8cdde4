"""How good the ranker is on simulated posts: discrimination, calibration, order, confidence.

Two oracles bound it on the same outcomes: one knows all that anything could show before the post
goes out (the creator's true appeal and audience, the generator's formula), the other also knows the
post's own appeal, which no input shows.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from services.ranker.features import UNKNOWN, to_rows
from services.ranker.heads import ACTIONS
from services.ranker.learn import columns, is_right
from serving.training.posts import OwnPosts
from simulation.feed import FeedTable

Array = NDArray[np.float64]
Predict = Callable[[NDArray[np.float32]], Mapping[str, Array]]  # rows in, `heads.predict` out

# What the ranker no longer knows when a node of the graph is gone and nothing is made up for it.
LOST_WITH: Mapping[str, tuple[str, ...]] = {
    "profile": ("follower_count", "avg_engagement"),
    "clip": ("quality_score",),
    "timing": ("hour_of_week",),
}


@dataclass(frozen=True, slots=True)
class Report:
    """Measures on one family; dictionaries go by action, level or node."""

    auc: Mapping[str, float]
    oracle_auc: Mapping[str, float]  # of what is knowable beforehand
    omniscient_auc: Mapping[str, float]
    ece: Mapping[str, float]
    ndcg: Mapping[str, float]  # at 10, by true rates: model, recency, oracle
    reach_coverage: float
    coverage_without: Mapping[str, float]  # by node that is gone
    confidence: float  # mean told
    right: float  # share that was right
    right_without: Mapping[str, float]  # by node that is gone
    confidence_without: Mapping[str, float]


def report(predict: Predict, feed: FeedTable) -> Report:
    """Measures a model on posts that were not used to learn it."""
    inputs = columns(feed)
    found = predict(to_rows(inputs, len(feed.reach)))
    without = {node: predict(_without(inputs, names)) for node, names in LOST_WITH.items()}
    gains = feed.true_rates.sum(axis=1)
    return Report(
        auc=_by_action(found["actions"], feed, auc_of),
        oracle_auc=_by_action(feed.knowable_rates, feed, auc_of),
        omniscient_auc=_by_action(feed.true_rates, feed, auc_of),
        ece=_by_action(found["actions"], feed, ece_of),
        ndcg={
            "model": ndcg_of(found["log_value"][:, 0], gains),
            "recency": ndcg_of(-feed.age_hours, gains),
            "oracle": ndcg_of(feed.knowable_rates.sum(axis=1), gains),
        },
        reach_coverage=_covered(found, feed),
        coverage_without={node: _covered(hidden, feed) for node, hidden in without.items()},
        confidence=float(found["confidence"].mean()),
        right=_right(found, feed),
        right_without={node: _right(hidden, feed) for node, hidden in without.items()},
        confidence_without={
            node: float(hidden["confidence"].mean()) for node, hidden in without.items()
        },
    )


def _by_action(
    rates: Array, feed: FeedTable, measure: Callable[[Array, FeedTable, int], float]
) -> dict[str, float]:
    return {action: measure(rates[:, i], feed, i) for i, action in enumerate(ACTIONS)}


def _right(found: Mapping[str, Array], feed: FeedTable) -> float:
    return float(is_right(found["score"][:, 0], feed.true_rates).mean())


def _covered(found: Mapping[str, Array], feed: FeedTable) -> float:
    low, _, high = found["reach"].T
    return float(((low <= feed.reach) & (feed.reach <= high)).mean())


def _without(inputs: Mapping[str, Array], names: tuple[str, ...]) -> NDArray[np.float32]:
    count = len(inputs["quality_score"])
    return to_rows({**inputs, **{name: np.full(count, UNKNOWN) for name in names}}, count)


def auc_of(score: Array, feed: FeedTable | OwnPosts, action: int) -> float:
    """Returns the AUC over impressions: each post is `actions` positives, the rest negatives."""
    order = np.argsort(score, kind="stable")
    acted = feed.actions[order, action].astype(np.float64)
    idle = feed.reach[order] - acted
    before = np.cumsum(idle) - idle
    return float((acted * (before + idle / 2)).sum() / (acted.sum() * idle.sum()))


def ece_of(predicted: Array, feed: FeedTable | OwnPosts, action: int, bins: int = 20) -> float:
    """Returns the expected calibration error over posts, in 20 bins of equal size."""
    observed = feed.actions[:, action] / feed.reach
    parts = np.array_split(np.argsort(predicted, kind="stable"), bins)
    gaps = [abs(predicted[part].mean() - observed[part].mean()) * len(part) for part in parts]
    return float(sum(gaps) / len(predicted))


def ndcg_of(score: Array, gains: Array, candidates: int = 100, top: int = 10) -> float:
    """Returns NDCG@10 over random feeds of 100 posts; the gains are (posts,) rates, some above 0.

    A feed in which nothing is gained has no order to be measured.
    """
    order = np.random.default_rng(10).permutation(len(score))
    feeds = order[: len(order) // candidates * candidates].reshape(-1, candidates)
    gain = gains[feeds]
    discount = 1.0 / np.log2(np.arange(2, top + 2))
    ranked = np.take_along_axis(gain, np.argsort(-score[feeds], axis=1, kind="stable"), axis=1)
    ideal = -np.sort(-gain, axis=1)
    dcg, best = ((gains[:, :top] * discount).sum(axis=1) for gains in (ranked, ideal))
    return float((dcg[best > 0] / best[best > 0]).mean())
