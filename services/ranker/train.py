"""Trains the ranker on simulated posts of family A: `python -m services.ranker.train`.

Writes the ONNX file with its manifest and the gateway's tables, and prints the measures on held-out
posts of family A and of family B, which it has not seen. The same command gives the same bytes.
"""

import argparse
import hashlib
from dataclasses import replace
from pathlib import Path

import numpy as np

from services.ranker.export import OUTPUTS, to_onnx
from services.ranker.features import COLUMN_COUNT, to_rows
from services.ranker.heads import Heads
from services.ranker.learn import (
    columns,
    examples,
    fit_confidence,
    hide,
    is_right,
    learn,
)
from services.ranker.measure import Report, report
from services.ranker.substitute import fit_reach, fit_score, linear_score, write_linear_score
from simulation.audience import Family
from simulation.feed import FeedTable, draw_feed

SEED = 20260902
CREATORS = 5000
POSTS_EACH = 20
ARTIFACT = "services/ranker/artifacts/feed-ranker.onnx"
MANIFEST = "services/ranker/manifests/feed-ranker.yaml"
SCORE_TABLE = "services/gateway/tables/linear_score.yaml"
CONFIDENCE_TABLE = "services/gateway/tables/confidence.yaml"
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
    held_out = draw_feed(rng, creators // 2, POSTS_EACH, Family.A)
    rows = to_rows(hide(rng, columns(held_out)), len(held_out.reach))
    right = is_right(heads.predict(rows)["score"][:, 0], held_out.true_rates)
    return replace(heads, confidence=fit_confidence(heads, rows, right)), feed


def main() -> None:
    """Trains, measures, and writes into the source tree."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--root", type=Path, default=Path(), help="the repository's root")
    root: Path = parser.parse_args().root
    heads, feed = train()
    tests = {
        family: draw_feed(np.random.default_rng([SEED, 1]), 2500, POSTS_EACH, family)
        for family in Family
    }
    reports = {family: report(heads.predict, test) for family, test in tests.items()}
    lines = [line for family, measured in reports.items() for line in _lines(family, measured)]
    _write_model(root, heads, lines)
    linear_right = _write_linear(root, heads, feed, tests[Family.A], reports[Family.A])
    _write_factors(root / CONFIDENCE_TABLE, reports[Family.A], linear_right)
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


def _write_linear(
    root: Path, heads: Heads, feed: FeedTable, test: FeedTable, measured: Report
) -> float:
    """Writes the linear score; returns how often it is right on `test`."""
    inputs = columns(feed)
    score = heads.predict(to_rows(inputs, len(feed.reach)))["score"][:, 0]
    fitted = fit_score(inputs, score)
    reach = fit_reach(feed.follower_count, feed.reach)
    write_linear_score(root / SCORE_TABLE, fitted, reach, measured.confidence)
    return float(is_right(linear_score(fitted, columns(test)), test.true_rates).mean())


def _write_factors(path: Path, measured: Report, linear_right: float) -> None:
    """Writes what each substitution costs: the share of right scores, relative to none."""
    lines = [
        "# What a substitution costs, measured by `python -m services.ranker.train` on held-out",
        "# posts of family A of simulation/: the share of scores within 20 points of the truth.",
        f"# None substituted: {measured.right:.3f} right, {measured.confidence:.3f} told.",
        "# `loss`: right without the node, relative to right with it. The ranker's own confidence",
        "# falls by `told` when it is left without the node's values, so a graph that makes up",
        "# nothing needs only `factor` = loss / told beside it (never above 1).",
    ]
    for node, right in measured.right_without.items():
        loss = right / measured.right
        told = measured.confidence_without[node] / measured.confidence
        factor = min(1.0, loss / told)
        lines.append(f"{node}: {{loss: {loss:.3f}, told: {told:.3f}, factor: {factor:.3f}}}")
    loss = linear_right / measured.right
    lines.append(f"ranker: {{loss: {loss:.3f}, told: 1.000, factor: {min(1.0, loss):.3f}}}")
    path.write_text("\n".join(lines) + "\n", encoding="utf-8")


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


if __name__ == "__main__":
    main()
