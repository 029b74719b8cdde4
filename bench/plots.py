"""Draws what was measured of timing and ranker. Writes docs/plots/*.svg and docs/plots/README.md.

`python bench/plots.py` (`make plots`) takes hit rates, coverage and the cost of feeds from the
tables of docs/bench, which other benchmarks wrote, and runs the served models on simulated posts
for what has no table: calibration, NDCG by the length of the list, and the week of a demo creator.
Nothing is drawn that was not measured; the same tables give the same pictures. 30 seconds.
"""

import argparse
from pathlib import Path
from zoneinfo import ZoneInfo

import numpy as np
from numpy.typing import NDArray

from cluster.heatmap import Week, to_svg
from cluster.load.chart import Chart, draw
from services.ranker.features import to_rows
from services.ranker.heads import ACTIONS
from services.ranker.learn import columns
from services.ranker.measure import ndcg_of
from services.timing.prior_file import read
from services.timing.rates import RateModel
from serving.engines.onnx import OnnxEngine
from serving.hours import hour_of_week
from serving.training.reliability import bins_of
from serving.training.reliability import draw as draw_squares
from simulation.audience import Family
from simulation.demo import demo_user
from simulation.feed import FeedTable, draw_feed

Array = NDArray[np.float64]
TABLES, FOLDER = Path("docs/bench"), Path("docs/plots")
RANKER = Path("services/ranker/artifacts/feed-ranker.onnx")
PRIOR = Path("services/timing/artifacts/posting-times.npz")
CREATORS, POSTS_EACH = 2500, 20
LENGTHS = (1, 2, 3, 5, 10, 20, 30, 50)
DEMO_USER = 12


def read_table(path: Path) -> list[dict[str, str]]:
    """Returns the rows of the first Markdown table of a report, cells by their column's name."""
    lines = [line for line in path.read_text(encoding="utf-8").splitlines() if line[:1] == "|"]
    head, _, *rows = ([cell.strip() for cell in line.strip("|").split("|")] for line in lines)
    return [dict(zip(head, row, strict=True)) for row in rows if len(row) == len(head)]


def hits() -> str:
    """Draws hit rates and the coverage of intervals by number of posts, both families."""
    rows = read_table(TABLES / "timing_hits.md")
    charts = []
    for family in ("A", "B"):
        mine = [row for row in rows if row["family"] == family]
        series = {
            name: [(np.log10(float(row["posts"])), float(row[name])) for row in mine]
            for name in ("histogram", "smoothing", "**model**", "80 % covers")
        }
        named = {name.strip("*"): points for name, points in series.items()}
        title = f"Best hour hit within 1 h, family {family}" + (" (trained on)" * (family == "A"))
        charts.append(Chart(title, "log10 of the creator's posts", "share", named))
    return draw(charts)


def feeds() -> str:
    """Draws what a feed costs by its candidates."""
    rows = read_table(TABLES / "rank_feed.md")
    points = [
        (float(row["candidates"].replace(",", "")), float(row["CPU ms"]))
        for row in rows
        if row["candidates"].replace(",", "").isdecimal()
    ]
    series = {"server and client": points}
    return draw([Chart("RankFeed, a page of 50", "candidates", "CPU ms", series)])


def calibration(feed: FeedTable, told: dict[str, Array]) -> str:
    """Draws told against seen rates, one square an action."""
    seen = feed.actions / feed.reach[:, None]
    return draw_squares(
        {
            action: bins_of(told["actions"][:, index], seen[:, index], feed.reach)
            for index, action in enumerate(ACTIONS)
        }
    )


def order(found: dict[Family, tuple[FeedTable, dict[str, Array]]]) -> str:
    """Draws NDCG by the length of the list, beside the oracle of what is knowable and recency."""
    charts = []
    for family, (feed, told) in found.items():
        gains = feed.true_rates.sum(axis=1)
        scores = {
            "oracle": feed.knowable_rates.sum(axis=1),
            "ranker": told["log_value"][:, 0],
            "recency": -feed.age_hours,
        }
        series = {
            name: [(float(top), ndcg_of(score, gains, top=top)) for top in LENGTHS]
            for name, score in scores.items()
        }
        title = f"NDCG in feeds of 100 posts, family {family.value}"
        charts.append(Chart(title, "length of the list", "NDCG", series))
    return draw(charts)


def week() -> str:
    """Draws what each hour promises a demo creator, from the served model."""
    user = demo_user(DEMO_USER)
    posts, gained = np.zeros(168), np.zeros(168)
    zone = ZoneInfo(user.time_zone)
    for post in user.posts:
        hour = hour_of_week(post.post_time, zone)
        posts[hour] += 1.0
        gained[hour] += sum(post.actions.values())
    draws = RateModel(read(PRIOR).prior).draw(posts, gained)
    best = int(draws.mean(axis=0).argmax())
    low, high = np.percentile(draws[:, best], (10, 90)).tolist()
    return to_svg(
        Week(
            title=f"{user.user_name}, {user.time_zone}, {len(user.posts)} posts",
            evidence="their own history",
            rates=tuple(np.median(draws, axis=0).tolist()),
            best=best,
            p10=low,
            p90=high,
            model="posting-times, simulator",
        )
    )


def ranked() -> dict[Family, tuple[FeedTable, dict[str, Array]]]:
    """Returns fresh posts of each family with what the served ranker says of them."""
    engine = OnnxEngine(RANKER)
    found = {}
    for family in Family:
        rng = np.random.default_rng([3, ord(family.value)])
        feed = draw_feed(rng, CREATORS, POSTS_EACH, family)
        told = engine.infer({"rows": to_rows(columns(feed), len(feed.reach))})
        found[family] = (feed, {name: array.astype(np.float64) for name, array in told.items()})
    return found


def main() -> None:
    argparse.ArgumentParser(description=__doc__).parse_args()
    posts = ranked()
    pictures = {
        "timing_hits": (hits(), "How often the best hour is hit; 80 % intervals"),
        "week": (week(), "What each hour promises a demo creator (simulated)"),
        **{
            f"ranker_calibration_{family.value.lower()}": (
                calibration(*posts[family]),
                f"Rates told and seen, family {family.value}, 80 % intervals",
            )
            for family in Family
        },
        "ranker_ndcg": (order(posts), "Order by true rates"),
        "rank_feed": (feeds(), "What a feed costs"),
    }
    FOLDER.mkdir(parents=True, exist_ok=True)
    source = "Drawn by `make plots` from the tables of `docs/bench` and from simulated posts."
    lines = ["# Plots", "", source]
    for name, (svg, caption) in pictures.items():
        (FOLDER / f"{name}.svg").write_text(svg, encoding="utf-8")
        lines += ["", f"## {caption}", "", f"![{caption}]({name}.svg)"]
        print(f"{FOLDER / name}.svg: {caption}")
    (FOLDER / "README.md").write_text("\n".join(lines) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
