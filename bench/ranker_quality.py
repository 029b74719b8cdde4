"""How good is the served ranker? Writes docs/bench/ranker_quality.md.

`python bench/ranker_quality.py` runs the committed ONNX file on simulated posts of creators who
were in no training: family A, on which it was trained, and family B, which it has not seen. The
oracle knows all that anything could show before a post goes out; the omniscient one also knows the
post's own appeal, which nothing shows. Confidence is right when the score is within 20 points of
the post's true percentile.
"""

import argparse
from collections.abc import Mapping
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from services.ranker.features import UNKNOWN, to_rows
from services.ranker.learn import columns
from services.ranker.measure import Predict, Report, report
from services.ranker.own import fit, prepared
from serving.engines.onnx import OnnxEngine
from serving.form import FORM
from serving.training.posts import EventsFile, OwnPosts
from simulation.audience import Family
from simulation.feed import FeedTable, draw_feed

ARTIFACT = Path("services/ranker/artifacts/feed-ranker.onnx")
REPORT = Path("docs/bench/ranker_quality.md")
AUC_BAR, NDCG_BAR = 0.03, 0.90  # at most so far below an oracle; at least so much of it
TEXT = """
## Which oracle the bars are held against

The bars (AUC within .03 of an oracle, NDCG@10 at least .90 of it) were set without saying what the
oracle knows. It makes the difference. A simulated post has an appeal of its own (log-odds of
deviation .35 in family A, .45 in B) that no input shows before it goes out. The *knowable* oracle
has the generator's formula, the creator's true appeal and true audience, and not that; the
*omniscient* one has that too. Against the knowable oracle the bars hold; against the omniscient
one they do not, and could not: the knowable oracle itself, the best that any model could be, misses
them there too, but for AUC in family A, which it keeps by a thousandth (last column). AUC is the
mean over the four actions.

What is left between the ranker and the knowable oracle is what its inputs leave out: the average
engagement is a noisy view of the creator's appeal, and the hour is looked up in the population's
week and not in the creator's. Interactions do not close it: products of average engagement and
followers (how far the average can be trusted), their squares and hinges, and quality with video,
added to the basis and fitted to the same posts, changed NDCG@10 by -.0002 (A) and .0000 (B), AUC of
likes by .0000 and -.0002. So the ranker stays additive, and its contributions exact.
"""
POSTS_EACH = 20
INTERVALS = """
## How wide reach is told

As quantile regression drew it, the interval held .80 of family A's posts and .73 of family B's,
whose posts scatter more and whose audiences are others. Nothing of A says how unlike another
population is, but A says how unlike one creator is to the next: so the ends are moved outwards, by
conformal quantiles on creators of A who were in no other part of the training, until the interval
holds four posts in five *of each of nine creators in ten* (services/ranker/intervals.py). That
depends on no distribution and has seen no post of B; that it is nine creators, and not eight, is a
choice, made when the .73 was known. It costs width: the interval is 11 % wider, and on the average
it holds more of A than is told. Where an input is unknown its ends are moved until it holds as many
posts as when all is known. For creators of B it holds less often than for those of A, the least
lucky tenth above all: what nothing of A tells, a margin can only meet halfway. A version trained on
own posts has its quantiles from that population and needs none, as the last table shows.
"""
OWN = ((1, 1500), (20, 60), (60, 40), (250, 20))  # creators and posts of each, of files
OWN_FILES = 4  # of each size
OWN_COLUMNS = (
    *("creator", "hour_of_week", "reach", "actions", "quality_score", "follower_count"),
    *("is_moment", "has_video", "caption_length", "tag_count"),
)
OF_ONE = (200, 500)  # creators and posts of each, to see for how many creators an interval holds


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
    for node, covered in measured.coverage_without.items():
        rows.append(f"| {family.value} | 80 % reach covers without {node} | {covered:.3f} | | |")
    rows.append(f"| {family.value} | confidence told | {measured.confidence:.3f} | | |")
    rows.append(f"| {family.value} | right | {measured.right:.3f} | | |")
    for node, right in measured.right_without.items():
        told = measured.confidence_without[node]
        lacking = f"right (told) without {node} | {right:.3f} ({told:.3f})"
        rows.append(f"| {family.value} | {lacking} | | |")
    return rows


def by_creator(family: Family, predict: Predict, seed: int) -> str:
    """Returns the row on the creators for whom the interval of reach holds least."""
    rng = np.random.default_rng([seed, ord(family.value), 1])
    feed = draw_feed(rng, *OF_ONE, family)
    low, _, high = predict(to_rows(columns(feed), len(feed.reach)))["reach"].T
    is_held = (low <= feed.reach) & (feed.reach <= high)
    own = np.bincount(feed.creator, is_held) / OF_ONE[1]
    worst = f"{np.quantile(own, 0.1):.3f}"
    return f"| {family.value} | 80 % reach covers, the creators' 10th percentile | {worst} | | |"


def own_rows() -> list[str]:
    """Returns how many of the later posts a version holds that was trained on the earlier ones."""
    lines = ["| own posts | family A | family B |", f"|{' --- |' * 3}"]
    for creators, posts_each in OWN:
        cells = []
        for family in Family:
            held = [_own_coverage(family, creators, posts_each, n) for n in range(OWN_FILES)]
            cells.append(f"{np.mean(held):.2f} ({min(held):.2f} to {max(held):.2f})")
        lines.append(f"| {posts_each:,} of each of {creators} | {' | '.join(cells)} |")
    return lines


def _own_coverage(family: Family, creators: int, posts_each: int, file: int) -> float:
    rng = np.random.default_rng([file, ord(family.value), creators])
    posts = _as_own(rng, draw_feed(rng, creators, posts_each, family))
    parts = prepared(EventsFile("", "", posts), say=lambda text: None)
    later = parts.later
    low, _, high = fit(parts).predict(to_rows(columns(later), len(later)))["reach"].T
    return float(((low <= later.reach) & (later.reach <= high)).mean())


def _as_own(rng: np.random.Generator, feed: FeedTable) -> OwnPosts:
    """Returns posts as a file would tell them: in order of time, without form or places."""
    order = rng.permutation(len(feed.reach))
    unknown, nothing = np.full(len(order), UNKNOWN), np.full(len(order), np.nan)
    told = {name: getattr(feed, name)[order] for name in OWN_COLUMNS}
    return OwnPosts(
        **told,
        post_us=np.arange(len(order)),
        **dict.fromkeys(("avg_engagement", "is_reply", *FORM), unknown),
        **dict.fromkeys(("position", "propensity"), nothing),
    )


def bars(family: Family, measured: Report) -> list[str]:
    """Returns how far the ranker is from either oracle, and the knowable from the omniscient."""

    def mean(values: Mapping[str, float]) -> float:
        return float(np.mean(list(values.values())))

    auc, known, all_known = map(mean, (measured.auc, measured.oracle_auc, measured.omniscient_auc))
    model, oracle = measured.ndcg["model"], measured.ndcg["oracle"]
    gaps = (known - auc, all_known - auc, all_known - known)
    shares = (model / oracle, model, oracle)
    told = [f"{gap:.3f}{'' if gap <= AUC_BAR else ' (missed)'}" for gap in gaps]
    kept = [f"{share:.3f}{'' if share >= NDCG_BAR else ' (missed)'}" for share in shares]
    return [
        f"| {family.value} | AUC below, at most {AUC_BAR} | {' | '.join(told)} |",
        f"| {family.value} | NDCG@10, at least {NDCG_BAR:.2f} of | {' | '.join(kept)} |",
    ]


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
    against = [
        "| family | bar | knowable oracle | omniscient oracle | knowable against omniscient |",
        f"|{' --- |' * 5}",
    ]
    for family in Family:
        rng = np.random.default_rng([options.seed, ord(family.value)])
        feed = draw_feed(rng, options.creators, POSTS_EACH, family)
        measured = report(predict, feed)
        lines += [*rows_of(family, measured), by_creator(family, predict, options.seed)]
        against += bars(family, measured)
    title = f"# The ranker on {options.creators * POSTS_EACH:,} simulated posts a family\n\n"
    REPORT.parent.mkdir(parents=True, exist_ok=True)
    own = own_rows()
    text = "\n".join([*lines, TEXT, *against, INTERVALS, *own])
    REPORT.write_text(f"{title}{text}\n", encoding="utf-8")
    print("\n".join([*lines, *against, *own]))


if __name__ == "__main__":
    main()
