"""Trains the ranker on simulated posts of family A: `python -m services.ranker.train`.

Writes the ONNX file with its manifest and the gateway's linear score, and prints the measures on
held-out posts of family A and of family B, which it has not seen. The same command gives the same
bytes.
"""

import argparse
import hashlib
from collections.abc import Collection, Mapping
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from services.ranker.export import OUTPUTS, to_onnx
from services.ranker.features import COLUMN_COUNT, INPUTS, to_rows
from services.ranker.heads import Heads
from services.ranker.intervals import hold_for_creators, hold_unknown
from services.ranker.learn import (
    columns,
    examples,
    fit_confidence,
    hide,
    is_right,
    learn,
)
from services.ranker.measure import Report, report
from services.ranker.substitute import fit_confidence as fit_linear_confidence
from services.ranker.substitute import fit_reach, fit_score, linear_score, write_linear_score
from simulation.audience import Family
from simulation.feed import FeedTable, PostWorld, draw_feed, draw_world

Array = NDArray[np.float64]

SEED = 20260902
CREATORS = 5000
POSTS_EACH = 20
INTERVAL_POSTS = (300, 600)  # creators and posts of each, for whom the interval of reach is to hold
UNKNOWN_POSTS = (10_000, 10)  # likewise, where an input is unknown
# Deviation of the log of an audience as a timing model sees it: the hours that it then finds are as
# good as those of ours for creators of 0 to 160 posts, on the average (exp 0.73 of the mean hour).
FOUND_NOISE = 0.7
FOUND_SHARE = 0.75  # of the posts; the others are asked about by callers who have chosen an hour
ARTIFACT = "services/ranker/artifacts/feed-ranker.onnx"
MANIFEST = "services/ranker/manifests/feed-ranker.yaml"
SCORE_TABLE = "services/gateway/tables/linear_score.yaml"
_MANIFEST = """\
# Written by `python -m services.ranker.train`.
name: feed-ranker
version: "1"
file: feed-ranker.onnx
sha256: {sha256}
source:
  kind: trained-here
  file: {file}
  sha256: {sha256}
  command: python -m services.ranker.train
license: as this repository
trained_on: simulator
experimental: true
metric: >-
{metric}
inputs:
  - {{name: rows, dtype: float32, shape: [-1, {columns}]}}
outputs:
{outputs}
tolerance: 1.0e-5
max_batch_rows: 4096
"""


def train(seed: int = SEED, creators: int = CREATORS) -> tuple[Heads, FeedTable]:
    """Returns the heads and the posts they were learned on; the confidence on others."""
    rng = np.random.default_rng(seed)
    feed = draw_feed(rng, creators, POSTS_EACH, Family.A)
    inputs = columns(feed)
    heads = learn(examples(feed, hide(rng, inputs)), examples(feed, inputs))
    heads = _holding(heads, seed)
    world = draw_world(rng, creators // 2, POSTS_EACH, Family.A)
    held_out = draw_asked(rng, world, FOUND_SHARE)
    rows = to_rows(hide(rng, held_out.inputs), len(held_out.true_rates))
    right = held_out.is_right(heads.predict(rows)["score"][:, 0])
    return replace(heads, confidence=fit_confidence(heads, rows, right)), feed


def _holding(heads: Heads, seed: int) -> Heads:
    """Makes the interval of reach hold for creators who are in no other part of the training."""
    rng = np.random.default_rng([seed, 3])
    few = draw_feed(rng, *INTERVAL_POSTS, Family.A)
    heads = hold_for_creators(heads, columns(few), few.reach, few.creator)
    many = draw_feed(rng, *UNKNOWN_POSTS, Family.A)
    return hold_unknown(heads, columns(many), many.reach)


@dataclass(frozen=True, slots=True)
class Asked:
    """Posts as the ranker is asked about them, most at an hour that was found for the creator.

    That hour is better for the creator than the ranker, who knows no audience, can tell; so its
    score is right less often there, and confidence has to know it.
    """

    inputs: Mapping[str, Array]
    true_rates: Array  # (posts, 4)
    population: Array  # true rates of the same posts at the hours of their creators' habits

    def is_right(self, score: Array) -> NDArray[np.bool_]:
        return is_right(score, self.true_rates, self.population)


def draw_asked(rng: np.random.Generator, world: PostWorld, found_share: float) -> Asked:
    """Draws the hours that a timing model would find, and what the posts gain there.

    `found_share` of the posts go out at them, the others at the hours of habit.
    """
    feed = world.feed
    seen = np.log(world.curves) + rng.normal(0.0, FOUND_NOISE, world.curves.shape)
    is_found = rng.random(len(feed.creator)) < found_share
    hours = np.where(is_found, seen.argmax(axis=1)[feed.creator], feed.hour_of_week)
    rates = np.where(is_found[:, None], world.draw_rates(rng, hours), feed.true_rates)
    inputs = {**columns(feed), "hour_of_week": hours.astype(np.float64)}
    return Asked(inputs, rates, feed.true_rates)


def main() -> None:
    """Trains, measures, and writes into the source tree."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--root", type=Path, default=Path(), help="the repository's root")
    root: Path = parser.parse_args().root
    heads, feed = train()
    worlds = {
        family: draw_world(np.random.default_rng([SEED, 1]), 2500, POSTS_EACH, family)
        for family in Family
    }
    reports = {family: report(heads.predict, world.feed) for family, world in worlds.items()}
    lines = [line for family, measured in reports.items() for line in _lines(family, measured)]
    lines += [_form_line(feed)]
    _write_model(root, heads, lines)
    _write_linear(root, heads, feed, worlds[Family.A])
    print("\n".join(lines))


def _write_model(root: Path, heads: Heads, lines: list[str]) -> None:
    content = to_onnx(heads)
    digest = hashlib.sha256(content).hexdigest()
    (root / ARTIFACT).parent.mkdir(parents=True, exist_ok=True)
    (root / MANIFEST).parent.mkdir(parents=True, exist_ok=True)
    (root / ARTIFACT).write_bytes(content)
    outputs = [
        f"  - {{name: {name}, dtype: float32, shape: [-1, {width}]}}"
        for name, width in OUTPUTS.items()
    ]
    manifest = _MANIFEST.format(
        sha256=digest,
        file=ARTIFACT,
        metric="\n".join(f"  {line}" for line in lines),
        columns=COLUMN_COUNT,
        outputs="\n".join(outputs),
    )
    (root / MANIFEST).write_text(manifest, encoding="utf-8")
    print(f"{ARTIFACT}: {len(content):,} bytes, sha256 {digest}")


def _write_linear(root: Path, heads: Heads, feed: FeedTable, world: PostWorld) -> None:
    """Writes the linear score; its confidence is how often it is right on the posts of `world`.

    In the graph hours are found for a creator, unless his profile is away.
    """
    inputs = columns(feed)
    score = heads.predict(to_rows(inputs, len(feed.reach)))["score"][:, 0]
    fitted = fit_score(inputs, score)
    rng = np.random.default_rng([SEED, 2])
    found, habitual = draw_asked(rng, world, 1.0), draw_asked(rng, world, 0.0)

    def right(hidden: Collection[str]) -> float:
        test = habitual if "avg_engagement" in hidden else found
        known = {name: values for name, values in test.inputs.items() if name not in hidden}
        return float(test.is_right(linear_score(fitted, known)).mean())

    reach = fit_reach(feed.follower_count, feed.reach)
    write_linear_score(root / SCORE_TABLE, fitted, reach, fit_linear_confidence(right))


def _lines(family: Family, measured: Report) -> list[str]:
    def row(values: dict[str, float]) -> str:
        return ", ".join(f"{name} {value:.3f}" for name, value in values.items())

    return [
        f"Family {family.value}: AUC {row(dict(measured.auc))}",
        f"(oracle of what is knowable {row(dict(measured.oracle_auc))};",
        f"omniscient {row(dict(measured.omniscient_auc))});",
        f"ECE {row(dict(measured.ece))};",
        f"NDCG@10 {row(dict(measured.ndcg))};",
        f"80 % reach interval covers {measured.reach_coverage:.3f};",
        f"confidence {measured.confidence:.3f} told, {measured.right:.3f} right.",
    ]


def _form_line(feed: FeedTable) -> str:
    missing = ", ".join(name for name in INPUTS if name not in columns(feed))
    return f"Simulated posts have no {missing}: nothing was learned of these."


if __name__ == "__main__":
    main()
