"""Trains the ranker on own posts: `python -m services.ranker.own train --events FILE`.

The posts are taken in order of time: heads are learned from the first 60 %, the confidence from the
next 20 %, and the last 20 % are for the measures alone. What a creator's posts did before is their
average engagement where the file does not say it. Own posts have no true rates, so a score counts
as right when it is near the percentile of what was *seen*; chance is in that, and the confidence
learned is the lower for it. Where the file tells the posts' places in the feed and how likely they
were to be shown, the heads are learned apart from both (`exposure`).
"""

import sys
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from services.ranker.export import to_onnx
from services.ranker.exposure import Exposure, effective_count, place_lines
from services.ranker.features import fingerprint, to_rows
from services.ranker.fit import sigmoid
from services.ranker.heads import ACTIONS, Heads
from services.ranker.learn import (
    CONFIDENCE_POINTS,
    columns,
    examples,
    fit_confidence,
    hide,
    learn,
    percentile_ranks,
)
from services.ranker.measure import Predict, auc_of, ece_of, ndcg_of
from services.ranker.scorer import ARTIFACT, check_features
from serving.engines.onnx import OnnxEngine
from serving.models.artifacts import Artifact
from serving.training.cells import EventsError
from serving.training.command import LATER_SHARE, Job, Measured, Say, main
from serving.training.compare import Interval, mean_over
from serving.training.posts import EventsFile, OwnPosts, split_by_time
from serving.training.release import Release
from serving.training.reliability import bins_of, draw
from serving.training.rows import UNKNOWN

Array = NDArray[np.float64]

MIN_POSTS = 1000  # in all; below it the base model says more
MIN_ACTIONS = 30  # of each kind that is to be measured
CONFIDENCE_SHARE = 0.25  # of the earlier posts, the latest of them
_IMPRESSIONS = 200.0  # beyond which a post says little more about its rate
_SMALL = 1e-7


@dataclass(frozen=True, slots=True)
class Parts:
    """Own posts by time: for the heads, for the confidence, for the measures."""

    first: OwnPosts
    middle: OwnPosts
    later: OwnPosts


def prepared(events: EventsFile, say: Say) -> Parts:
    """Splits the posts that were shown, past engagement filled in; raises `EventsError`."""
    posts = events.posts.only(events.posts.reach >= 1)
    if len(posts) < MIN_POSTS:
        found = f"{len(posts):,} posts with impressions"
        raise EventsError(f"{events.name} has {found}, at least {MIN_POSTS:,}")
    most = posts.reach[:, None].astype(np.int64)
    if excess := int((posts.actions > most).any(axis=1).sum()):
        say(f"{excess:,} posts have more actions than impressions: no more than those count")
    posts = with_past_engagement(replace(posts, actions=np.minimum(posts.actions, most)))
    earlier, later = split_by_time(posts, LATER_SHARE)
    first, middle = split_by_time(earlier, CONFIDENCE_SHARE)
    return Parts(first, middle, later)


def check_learnable(name: str, first: OwnPosts) -> None:
    """Raises `EventsError` where the posts of the heads know one outcome of an action alone."""
    counts, shown = first.actions.sum(axis=0), first.reach.sum()
    never = [a for a, n in zip(ACTIONS, counts, strict=True) if not n]
    if never:
        found = f"no {' and no '.join(never)} in its first {len(first):,} posts"
        raise EventsError(f"{name} has {found}, at least one of each")
    always = [a for a, n in zip(ACTIONS, counts, strict=True) if n == shown]
    if always:
        found = f"a {' and a '.join(always)} for every impression"
        raise EventsError(f"{name} has {found}: nothing to tell apart")


def with_past_engagement(posts: OwnPosts) -> OwnPosts:
    """Fills an unknown average engagement by that of the creator's earlier posts, if any."""
    order = np.argsort(posts.creator, kind="stable")  # the posts of a creator stay in time's order
    creator = posts.creator[order]
    shown, acted = posts.reach[order].astype(np.int64), posts.actions[order].sum(axis=1)
    before = [np.cumsum(values) - values for values in (shown, acted)]
    starts = np.searchsorted(creator, creator)
    shown_before, acted_before = (total - total[starts] for total in before)
    is_first = starts == np.arange(len(order))
    past = np.minimum(1.0, acted_before / np.where(is_first, 1, shown_before))
    filled = np.empty(len(order))
    filled[order] = np.where(is_first, UNKNOWN, past)
    known = posts.avg_engagement
    return replace(posts, avg_engagement=np.where(known == UNKNOWN, filled, known))


def fit(parts: Parts) -> Heads:
    """Learns all heads; the same posts give the same heads."""
    rng = np.random.default_rng(1)
    known = columns(parts.first)
    train = examples(parts.first, hide(rng, known), exposure_of(parts.first))
    heads = learn(train, examples(parts.first, known))
    rows = to_rows(hide(rng, columns(parts.middle)), len(parts.middle))
    score = heads.predict(rows)["score"][:, 0]
    seen = parts.middle.actions.sum(axis=1) / parts.middle.reach
    right = np.abs(score - percentile_ranks(seen)) <= CONFIDENCE_POINTS
    return replace(heads, confidence=fit_confidence(heads, rows, right))


def exposure_of(posts: OwnPosts) -> Exposure:
    """Returns what the file tells of places and propensities."""
    return Exposure(posts.position, posts.propensity)


def exposure_lines(posts: OwnPosts, heads: Heads) -> list[str]:
    """Says in what way the heads were learned apart from where and how often posts were shown."""
    lines, weight = [], exposure_of(posts).weights()
    if len(heads.place):
        known = np.isfinite(posts.position).mean()
        tenth = float(np.exp(place_lines(np.array([10.0]))[0] @ heads.place))
        lines.append(f"- place in the feed taken out ({known:.0%} known): 10th / 1st {tenth:.2f}")
    if np.isfinite(posts.propensity).any():
        count = effective_count(weight)
        lines.append(f"- weighed by inverse propensity: as good as {count:,.0f} equal posts")
    return lines or ["- no places and no propensities in the file: as the feed was shown"]


def input_lines(posts: OwnPosts) -> list[str]:
    """Says of which inputs nothing could be learned: they move nothing, and answers say so."""
    alike = [name for name, values in columns(posts).items() if values.min() == values.max()]
    return [f"- unknown or alike in all posts, so not learned: {', '.join(alike)}"] if alike else []


def train(before: Artifact, events: EventsFile, say: Say) -> tuple[Release, bool]:
    """Learns from the earlier posts; the later ones say whether it is better than `before`."""
    parts = prepared(events, say)
    check_learnable(events.name, parts.first)
    say(f"learning from {len(parts.first):,} posts, the confidence from {len(parts.middle):,} …")
    heads = fit(parts)
    say(f"measuring on the {len(parts.later):,} later posts …")
    gain = _gain(heads, _predict(before), parts.later)
    measured = _measured(heads.predict, parts.later)
    card = [
        f"Heads learned from {len(parts.first):,} posts, the confidence from "
        f"{len(parts.middle):,} after them.",
        *exposure_lines(parts.first, heads),
        *input_lines(parts.first),
        "",
        f"On the {len(parts.later):,} later posts, {parts.later.period()}:",
        *measured.lines,
        f"- better than version {before.manifest.version} by {gain} nats a thousand impressions",
    ]
    made = Release(
        content=to_onnx(heads),
        metric=" ".join(line.removeprefix("- ") + ";" for line in (*measured.lines, card[-1])),
        card=card,
        plot=measured.plot,
        command=f"fomofeed train ranker --events {events.name}",
        is_proven=gain.p10 > 0,
        preprocessing={"features": fingerprint()},
    )
    return made, gain.mean >= 0


def evaluate(artifact: Artifact, events: EventsFile, say: Say) -> Measured:
    """Measures an artifact on the later posts."""
    later = prepared(events, say).later
    say(f"measuring on the {len(later):,} later posts …")
    return _measured(_predict(artifact), later)


def _predict(artifact: Artifact) -> Predict:
    check_features(artifact.manifest)
    engine = OnnxEngine(artifact.path)

    def predict(rows: NDArray[np.float32]) -> dict[str, Array]:
        found = engine.infer({"rows": rows})
        return {name: values.astype(np.float64) for name, values in found.items()}

    return predict


def _measured(predict: Predict, later: OwnPosts) -> Measured:
    found = predict(to_rows(columns(later), len(later)))
    rates, seen = found["actions"], later.actions / later.reach[:, None]
    lines, plots = [], {}
    for index, action in enumerate(ACTIONS):
        count = int(later.actions[:, index].sum())
        if not MIN_ACTIONS <= count < later.reach.sum():
            amount = "few" if count < MIN_ACTIONS else "many"
            lines.append(f"- {action}: {count:,} seen, too {amount} to measure")
            continue
        auc = auc_of(rates[:, index], later, index)
        ece = ece_of(rates[:, index], later, index)
        lines.append(f"- {action}: AUC {auc:.3f}, ECE {ece:.4f}, {count:,} seen")
        plots[action] = bins_of(rates[:, index], seen[:, index], later.reach)
    if len(later) >= 100 and seen.any():
        ndcg = ndcg_of(found["log_value"][:, 0], seen.sum(axis=1))
        lines.append(f"- NDCG@10 by rates seen, in feeds of 100 posts: {ndcg:.3f}")
    low, _, high = found["reach"].T
    covered = float(((low <= later.reach) & (later.reach <= high)).mean())
    near = np.abs(found["score"][:, 0] - percentile_ranks(seen.sum(axis=1))) <= CONFIDENCE_POINTS
    lines.append(f"- 80 % interval of reach covers {covered:.0%}")
    lines.append(f"- confidence {found['confidence'].mean():.2f} told, {near.mean():.2f} right")
    return Measured(lines, draw(plots))


def _gain(new: Heads, old: Predict, later: OwnPosts) -> Interval:
    """Returns the log-likelihood of the actions over another model's, a thousand impressions.

    Both are told where the posts stood, and posts weigh as much as they are rare in the log.
    """
    rows = to_rows(columns(later), len(later))
    seen = later.actions / later.reach[:, None]
    exposure = exposure_of(later)
    weight = later.reach / (1.0 + later.reach / _IMPRESSIONS) * exposure.weights()
    places = exposure.places(weight)
    place = places @ new.place if places.shape[1] == len(new.place) else np.zeros(len(later))
    told = (_placed(model(rows)["actions"], place) for model in (new.predict, old))
    better, worse = (_log_score(rates, seen) for rates in told)
    return mean_over(1000 * (better - worse), weight, later.creator)


def _placed(rates: Array, place: Array) -> Array:
    rates = np.clip(rates, _SMALL, 1 - _SMALL)
    return sigmoid(np.log(rates / (1 - rates)) + place[:, None])


def _log_score(rates: Array, seen: Array) -> Array:
    rates = np.clip(rates, _SMALL, 1 - _SMALL)
    return np.asarray((seen * np.log(rates) + (1 - seen) * np.log1p(-rates)).sum(axis=1))


JOB = Job(artifact=ARTIFACT, train=train, evaluate=evaluate)

if __name__ == "__main__":
    sys.exit(main(JOB))
