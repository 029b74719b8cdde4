"""How good is the served ranker? Writes docs/bench/ranker_quality.md.

`python bench/ranker_quality.py` runs the committed ONNX file on simulated posts of creators who
were in no training: family A, on which it was trained, and family B, which it has not seen. The
oracle knows all that anything could show before a post goes out; the omniscient one also knows the
post's own appeal, which nothing shows. Confidence is right when the score is within 20 points of
the post's true percentile.
"""

import argparse
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from services.ranker.measure import Report, report
from serving.engines.onnx import OnnxEngine
from simulation.audience import Family
from simulation.feed import draw_feed

ARTIFACT = Path("services/ranker/artifacts/feed-ranker.onnx")
REPORT = Path("docs/bench/ranker_quality.md")
POSTS_EACH = 20


def rows_of(family: Family, measured: Report) -> list[str]:
    """Returns the table's rows of one family."""
    rows = [
        f"| {family.value} | AUC {action} | {auc:.3f} | {measured.oracle_auc[action]:.3f} | "
        f"{measured.omniscient_auc[action]:.3f} |"
        for action, auc in measured.auc.items()
    ]
    rows += [
        f"| {family.value} | ECE {action} | {ece:.4f} | | |" for action, ece in measured.ece.items()
    ]
    ndcg = measured.ndcg
    rows.append(f"| {family.value} | NDCG@10 | {ndcg['model']:.3f} | {ndcg['oracle']:.3f} | 1 |")
    rows.append(f"| {family.value} | NDCG@10 of recency | {ndcg['recency']:.3f} | | |")
    rows.append(f"| {family.value} | 80 % reach covers | {measured.reach_coverage:.3f} | | |")
    rows.append(f"| {family.value} | confidence told | {measured.confidence:.3f} | | |")
    rows.append(f"| {family.value} | right | {measured.right:.3f} | | |")
    for node, right in measured.right_without.items():
        told = measured.confidence_without[node]
        lacking = f"right (told) without {node} | {right:.3f} ({told:.3f})"
        rows.append(f"| {family.value} | {lacking} | | |")
    return rows


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--creators", type=int, default=2500, help="of 20 posts each")
    parser.add_argument("--seed", type=int, default=1)
    options = parser.parse_args()
    engine = OnnxEngine(ARTIFACT)

    def predict(rows: NDArray[np.float32]) -> dict[str, NDArray[np.float64]]:
        found = engine.infer({"rows": rows})
        return {name: array.astype(np.float64) for name, array in found.items()}

    lines = ["| family | measure | ranker | oracle | omniscient |", f"|{' --- |' * 5}"]
    for family in Family:
        rng = np.random.default_rng([options.seed, ord(family.value)])
        feed = draw_feed(rng, options.creators, POSTS_EACH, family)
        lines += rows_of(family, report(predict, feed))
    title = f"# The ranker on {options.creators * POSTS_EACH:,} simulated posts a family\n\n"
    REPORT.parent.mkdir(parents=True, exist_ok=True)
    REPORT.write_text(title + "\n".join(lines) + "\n", encoding="utf-8")
    print("\n".join(lines))


if __name__ == "__main__":
    main()
