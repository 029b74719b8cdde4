"""Trains the timing model on own posts: `python -m services.timing.own train --events FILE`.

Weekly curves of the creators with enough posts are clustered and join those that the prior has;
then all curves are weighed by how well they explain the creators' histories: few creators move the
prior little, and many make it theirs. The later posts are for the measures alone. A real history
has no true best hour to hit, so what is measured is whether later posts did better in the hours
that were told to be better.
"""

import sys
from dataclasses import replace

import numpy as np
from numpy.typing import NDArray

from services.timing.advisor import ARTIFACT
from services.timing.lifts import MIN_ENGAGEMENTS, Lifts, fit_lifts
from services.timing.own_measure import Foretold, curves_of, foretell, histories_of
from services.timing.prior_file import Trained, read, to_bytes
from services.timing.rates import Prior, RateModel, unit_mean
from services.timing.train import cluster, dispersion_of, fit_curves
from serving.models.artifacts import Artifact
from serving.training.cells import EventsError
from serving.training.command import LATER_SHARE, Job, Measured, Say, main
from serving.training.posts import EventsFile, OwnPosts, split_by_time
from serving.training.release import Release
from serving.training.reliability import Bin, bins_of, draw
from simulation.history import Histories

Array = NDArray[np.float64]

MIN_CURVE_POSTS = 20  # of a creator whose curve joins the prior
MIN_LATER_POSTS = 30  # in all, or nothing can be measured
PRIOR_CREATORS = 50.0  # own creators that weigh as much as the prior there was
CLUSTER_CREATORS = 20  # in a cluster of curves, on average
MAX_CURVES = 384  # clusters, at most
_ROUNDS = 4
MIN_DISPERSION_POSTS = 2000
MIN_LIFT_POSTS = 300  # with a score, of creators with `MIN_ENGAGEMENTS` a post


def learn(base: Trained, posts: OwnPosts) -> tuple[Trained, list[str]]:
    """Returns the model and what was learned in it; what the posts cannot tell stays as it was."""
    histories = histories_of(posts)
    is_long = (histories.posts.sum(axis=1) >= MIN_CURVE_POSTS) & (
        histories.engagements.sum(axis=1) > 0
    )
    long = Histories(histories.posts[is_long], histories.engagements[is_long])
    prior, notes = base.prior, []
    if is_long.any():
        prior = _joined(base.prior, long)
        share = prior.weights[len(base.prior.weights) :].sum()
        notes.append(f"- curves of {is_long.sum():,} creators, {share:.0%} of the prior")
    else:
        notes.append(f"- no curves: no creator has {MIN_CURVE_POSTS} posts")
    if long.posts.sum() >= MIN_DISPERSION_POSTS:
        dispersion = float(np.clip(dispersion_of(long, fit_curves(long)), 0.1, 100.0))
        prior = replace(prior, dispersion=dispersion)
        notes.append(f"- how much posts of one hour differ: size {dispersion:.2f}")
    lifts = _lifts(posts)
    notes.append("- lifts of quality and video" if lifts else "- lifts stay: too few scored posts")
    notes.append("- the width of intervals stays: a history shows no true rates")
    return Trained(prior, lifts or base.lifts), notes


def train(before: Artifact, events: EventsFile, say: Say) -> tuple[Release, bool]:
    """Learns from the earlier posts; the later ones say whether it is better than `before`."""
    base = read(before.path)
    earlier, later = _split(events)
    say(f"learning from the {len(earlier):,} earlier posts …")
    learned, notes = learn(base, earlier)
    say(f"measuring on the {len(later):,} later posts …")
    old, new = (foretell(curves_of(t.prior, earlier, say), later) for t in (base, learned))
    gain = new.gain_over(old)
    measured = _measured(new, curves_of(None, earlier), later)
    version = before.manifest.version
    card = [
        "Learned from the earlier posts:",
        *notes,
        "",
        f"On the {len(later):,} later posts, {later.period()}:",
        *measured.lines,
        f"- better than version {version} by {gain} nats a post",
    ]
    metric = " ".join(line.removeprefix("- ") + ";" for line in (*measured.lines, card[-1]))
    made = Release(
        content=to_bytes(learned),
        metric=metric,
        card=card,
        plot=measured.plot,
        command=f"fomofeed train timing --events {events.name}",
        is_proven=gain.p10 > 0,
    )
    return made, gain.mean >= 0


def evaluate(artifact: Artifact, events: EventsFile, say: Say) -> Measured:
    """Measures an artifact on the later posts, given the earlier ones."""
    earlier, later = _split(events)
    say(f"measuring on the {len(later):,} later posts …")
    found = foretell(curves_of(read(artifact.path).prior, earlier, say), later)
    return _measured(found, curves_of(None, earlier), later)


def _measured(found: Foretold, smoothed: Array, later: OwnPosts) -> Measured:
    plain = foretell(smoothed, later)
    lines = [
        f"- rank correlation within a creator: {found.correlation()}",
        f"- plain smoothing of the same history: {plain.correlation()}",
        f"- gain over no idea of the hour: {found.gain()} nats a post",
        f"- plain smoothing: {plain.gain()} nats a post",
    ]
    weight = np.ones(len(found.told))
    bins: list[Bin] = bins_of(found.told, found.seen, weight, count=min(10, len(weight) // 10))
    return Measured(lines, draw({"engagement, 1 = the creator's average": bins}))


def _split(events: EventsFile) -> tuple[OwnPosts, OwnPosts]:
    earlier, later = split_by_time(events.posts, LATER_SHARE)
    usable = np.isin(later.creator, earlier.creator).sum()
    if usable < MIN_LATER_POSTS:
        limit = f"at least {MIN_LATER_POSTS} by creators who posted before"
        raise EventsError(f"{events.name} has {usable} posts to measure on, {limit}")
    return earlier, later


def _joined(prior: Prior, histories: Histories) -> Prior:
    """Adds clusters of the histories' curves, then shares the weights out anew.

    A curve of one creator alone would be found again in that creator's history, chance and all;
    a cluster averages chance out. Weights are the posterior's mean over creators (EM), held back by
    the prior that there was.
    """
    curves = fit_curves(histories)
    count = int(np.clip(len(curves) // CLUSTER_CREATORS, 1, MAX_CURVES))
    centres, shares = cluster(np.random.default_rng(1), np.log(curves), count)
    own = len(curves) / (len(curves) + PRIOR_CREATORS)
    weights = np.concatenate([prior.weights * (1 - own), shares * own])
    joined = np.concatenate([prior.curves, unit_mean(np.exp(centres))])
    held = PRIOR_CREATORS * weights
    for _ in range(_ROUNDS):
        model = RateModel(replace(prior, curves=joined, weights=weights))
        pairs = zip(histories.posts, histories.engagements, strict=True)
        weights = held + sum(model.weights(*pair) for pair in pairs)
        weights /= weights.sum()
    return replace(prior, curves=joined, weights=weights)


def _lifts(posts: OwnPosts) -> Lifts | None:
    gained = posts.actions.sum(axis=1).astype(np.float64)
    size = int(posts.creator.max()) + 1
    counts = np.bincount(posts.creator, minlength=size)
    typical = np.bincount(posts.creator, gained, size) / np.maximum(counts, 1)
    scored = posts.only((posts.quality_score >= 0) & (typical[posts.creator] >= MIN_ENGAGEMENTS))
    if len(scored) < MIN_LIFT_POSTS or scored.has_video.all() or not scored.has_video.any():
        return None
    numbered = np.unique(scored.creator, return_inverse=True)[1].astype(np.int64)
    order = np.argsort(numbered, kind="stable").astype(np.int64)
    return fit_lifts(np.random.default_rng(1), replace(scored, creator=numbered).only(order))


JOB = Job(artifact=ARTIFACT, train=train, evaluate=evaluate)

if __name__ == "__main__":
    sys.exit(main(JOB))
