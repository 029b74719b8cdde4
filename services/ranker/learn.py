"""Learns the ranker's heads from posts and what came of them. Needs no more than the posts.

Where posts stood and how likely they were to be shown is taken out of the heads where it is known.
"""

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from services.ranker.exposure import Exposure, Parts, fit_apart
from services.ranker.features import MAY_BE_UNKNOWN, UNKNOWN, to_rows
from services.ranker.fit import fit_basis, log_linear, logistic, quantile, sigmoid
from services.ranker.heads import Heads
from serving.form import FORM
from serving.training.posts import OwnPosts
from simulation.feed import FeedTable

Array = NDArray[np.float64]

CONFIDENCE_POINTS = 20.0  # a score is right when the post's true percentile is this near
UNKNOWN_SHARE = 0.12  # of the values of an input that may be unknown, hidden in training
PROFILE_UNKNOWN_SHARE = 0.08  # of the rows, both inputs from the profile hidden
_OVERDISPERSION = 200.0  # impressions beyond which a post says little more about its rate


@dataclass(frozen=True, slots=True)
class Examples:
    """Posts as features with outcomes: `rows` is (posts, columns), `shares` (posts, 4)."""

    rows: NDArray[np.float32]
    shares: Array  # of the impressions that acted, per action
    weight: Array  # of a post in a regression on its shares
    reach: Array
    places: Array  # (posts, nuisance), what the place in the feed adds; no columns: not known


def columns(feed: FeedTable | OwnPosts) -> dict[str, Array]:
    """Returns the inputs of the ranker as far as they are known; simulated posts have no form."""
    form = (
        {name: getattr(feed, name) for name in ("is_reply", *FORM)}
        if isinstance(feed, OwnPosts)
        else {}
    )
    return form | {
        "quality_score": feed.quality_score,
        "hour_of_week": feed.hour_of_week.astype(np.float64),
        "follower_count": feed.follower_count,
        "avg_engagement": feed.avg_engagement,
        "is_moment": feed.is_moment.astype(np.float64),
        "has_video": feed.has_video.astype(np.float64),
        "caption_length": feed.caption_length,
        "tag_count": feed.tag_count,
    }


def hide(rng: np.random.Generator, inputs: Mapping[str, Array]) -> dict[str, Array]:
    """Makes some values unknown, as they are when a node of the graph gave no answer.

    An input that is the same everywhere stays so: nothing is to be learned of it.
    """
    count = len(inputs["quality_score"])
    no_profile = rng.random(count) < PROFILE_UNKNOWN_SHARE
    hidden = dict(inputs)
    for name in (name for name in MAY_BE_UNKNOWN if name in inputs):
        is_hidden = rng.random(count) < UNKNOWN_SHARE
        if name in ("follower_count", "avg_engagement"):
            is_hidden |= no_profile
        is_hidden &= inputs[name].min() < inputs[name].max()
        hidden[name] = np.where(is_hidden, UNKNOWN, inputs[name])
    return hidden


def examples(
    feed: FeedTable | OwnPosts, inputs: Mapping[str, Array], exposure: Exposure | None = None
) -> Examples:
    """Pairs features made of `inputs` with the outcomes of `feed`."""
    exposure = exposure or Exposure.unknown(len(feed.reach))
    weight = feed.reach / (1.0 + feed.reach / _OVERDISPERSION) * exposure.weights()
    return Examples(
        rows=to_rows(inputs, len(feed.reach)),
        shares=feed.actions / feed.reach[:, None],
        weight=weight,
        reach=feed.reach,
        places=exposure.places(weight),
    )


def learn(train: Examples, whole: Examples) -> Heads:
    """Fits all heads but the confidence on `train`, the score's table on `whole`: all known."""
    basis = fit_basis(whole.rows)
    design = basis.design(train.rows)
    actions = [
        fit_apart(logistic, sigmoid, Parts(design, train.places, share, train.weight))[0]
        for share in train.shares.T
    ]
    total = Parts(design, train.places, train.shares.sum(axis=1), train.weight)
    value, place = fit_apart(log_linear, np.exp, total)
    log_reach = np.log(train.reach)
    complete = basis.design(whole.rows)
    table = np.percentile(complete @ value, np.arange(101.0))
    return Heads(
        basis=basis,
        actions=np.stack(actions, axis=1),
        value=value,
        reach=np.stack([quantile(design, log_reach, level) for level in (0.1, 0.5, 0.9)], axis=1),
        confidence=np.zeros(design.shape[1]),
        percentiles=np.maximum.accumulate(table + np.arange(101) * 1e-7),
        mean=complete[:, :-1].mean(axis=0),
        place=place,
    )


def is_right(score: Array, true_rates: Array, among: Array | None = None) -> NDArray[np.bool_]:
    """Says for each post whether its score is within `CONFIDENCE_POINTS` of its true percentile.

    The true percentile is that of the post's true rate, (posts, 4), among the posts given, or
    among other posts' rates.
    """
    rates = true_rates.sum(axis=1)
    if among is None:
        true = percentile_ranks(rates)
    else:
        true = 100.0 * np.searchsorted(np.sort(among.sum(axis=1)), rates) / len(among)
    return np.abs(score - true) <= CONFIDENCE_POINTS


def percentile_ranks(values: Array) -> Array:
    """Returns where each value stands among all, 0 to 100."""
    ranks = np.empty(len(values))
    ranks[np.argsort(values, kind="stable")] = np.arange(len(values))
    return np.asarray(100.0 * (ranks + 0.5) / len(values))


def fit_confidence(heads: Heads, rows: NDArray[np.float32], right: NDArray[np.bool_]) -> Array:
    """Fits the probability of being right on posts that `learn` has not seen."""
    design = heads.basis.design(rows)
    return logistic(design, right.astype(np.float64), np.ones(len(rows)))
