"""Is the arithmetic of inverse propensity right on real logs? Writes docs/bench/real_clicks.md.

`python bench/real_clicks.py` reads the Open Bandit logs of a shop's page: in each campaign one log
of items shown at random and one shown by Thompson sampling, 10,000 rows each with the probability
of what was shown. From either log it estimates what the *other* policy's clicks would be, and
compares with the clicks that the other log really has. The Thompson policy is taken as its shares
of items, whoever looked on. Then heads are learned from Thompson's log with the ranker's own
regressions, naively and apart from place and propensity, and rank the rows of the random log.
"""

import argparse
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from bench.real.clicks import CAMPAIGNS, Estimate, Log, estimate, ips, read_log, snips
from services.ranker.exposure import (
    MOST_WEIGHT,
    Exposure,
    Parts,
    effective_count,
    fit_apart,
    inverse_weights,
)
from services.ranker.fit import logistic, sigmoid
from serving.models.artifacts import ArtifactError

Array = NDArray[np.float64]
REPORT = Path("docs/bench/real_clicks.md")
RESAMPLES = 500
_ITEM = 0.02  # of an item's column: the ridge then draws its log-odds to 0 with deviation about 1


@dataclass(frozen=True, slots=True)
class Check:
    """What one log says of the other's policy, and what the other log has."""

    ips: Estimate
    cut: Estimate  # weights cut off at `MOST_WEIGHT`
    snips: Estimate
    seen: Estimate
    weight: Estimate  # its mean is 1 where propensities and arithmetic agree
    effective: float  # rows of equal weight that would tell as much

    @property
    def is_within(self) -> bool:
        """Whether every estimate agrees with what was seen."""
        return all(one.overlaps(self.seen) for one in (self.ips, self.cut, self.snips))


def check(campaign: str) -> dict[str, Check]:
    """Returns the estimates of either direction, by what it is."""
    random, thompson = read_log("random", campaign), read_log("bts", campaign)
    count = _item_count(random, thompson)
    uniform = np.full(count, 1.0 / count)
    shares = np.bincount(thompson.item, minlength=count) / len(thompson.item)
    return {
        "uniform, from Thompson's log": _checked(thompson, uniform, random),
        "Thompson's shares, from the random log": _checked(random, shares, thompson),
    }


def by_position(campaign: str) -> list[Estimate]:
    """Returns the click rates of the three positions in the random log."""
    log = read_log("random", campaign)
    return [estimate(log.click[log.position == position]) for position in (1, 2, 3)]


def learned(campaign: str) -> dict[str, tuple[float, float, float]]:
    """Returns AUC on the random log with its 95 % interval, by way of learning from Thompson's."""
    random, thompson = read_log("random", campaign), read_log("bts", campaign)
    count = _item_count(random, thompson)
    nothing = np.full(len(thompson.item), np.nan)
    place = thompson.position.astype(np.float64)
    ways = {
        "naive": Exposure(nothing, nothing),
        "place": Exposure(place, nothing),
        "inverse propensity": Exposure(nothing, thompson.propensity),
        "both": Exposure(place, thompson.propensity),
    }
    return {name: _auc(random, _told(thompson, way, random, count)) for name, way in ways.items()}


def _told(log: Log, exposure: Exposure, other: Log, count: int) -> Array:
    """Learns clicks by item and affinity from `log`; returns what it tells of `other`'s rows."""
    weight = inverse_weights(exposure.propensity)
    parts = Parts(_design(log, count), exposure.places(weight), log.click, weight)
    weights, _ = fit_apart(logistic, sigmoid, parts)
    return np.asarray(_design(other, count) @ weights)


def _design(log: Log, count: int) -> Array:
    items = _ITEM * np.eye(count)[log.item]
    return np.column_stack([items, 0.1 * np.log1p(log.affinity), np.ones(len(log.item))])


def _auc(log: Log, told: Array) -> tuple[float, float, float]:
    rng = np.random.default_rng(1)
    ranks = np.unique(told, return_inverse=True)[1]
    rows = len(told)
    values = [_rank_auc(ranks[d], log.click[d]) for d in rng.integers(0, rows, (RESAMPLES, rows))]
    low, high = np.percentile(values, (2.5, 97.5))
    return _rank_auc(ranks, log.click), float(low), float(high)


def _rank_auc(ranks: NDArray[np.int64], click: Array) -> float:
    """Returns the AUC of whole-numbered ranks; equals count half."""
    clicked = np.bincount(ranks, click)
    idle = np.bincount(ranks, 1.0 - click)
    below = np.cumsum(idle) - idle
    return float((clicked * (below + idle / 2)).sum() / max(clicked.sum() * idle.sum(), 1.0))


def _checked(log: Log, wanted: Array, other: Log) -> Check:
    weight = log.weights(wanted)
    return Check(
        ips=ips(log.click, weight),
        cut=ips(log.click, weight, MOST_WEIGHT),
        snips=snips(log.click, weight),
        seen=estimate(other.click),
        weight=estimate(weight),
        effective=effective_count(weight),
    )


def _item_count(*logs: Log) -> int:
    return 1 + max(int(log.item.max()) for log in logs)


TEXT = """
*IPS* is unbiased; *cut* has its weights cut off at 20; *SNIPS* divides by the sum of the weights.
The mean weight is 1 where the arithmetic and the propensities agree; *rows* says how many of equal
weight would tell as much. A propensity of one in a million (women, Thompson) leaves two rows of
10,000: there every estimate is a guess, the plain one most of all. Thompson's shares are themselves
counted from 10,000 rows, which the intervals leave out.

Learned from Thompson's log (item and affinity, by the regressions of
`services/ranker/exposure.py`), AUC on the random log:

{learned}

With 38 to 69 clicks a log this is a check of the arithmetic and no more: the ways of learning
cannot be told apart here, nor can the places of a page of three. What they are worth is shown where
the truth is known: [position_bias.md](position_bias.md). The served ranker has not been run on
these logs, which have other features.
"""


def estimates() -> list[str]:
    """Returns the table of estimates."""
    head = ("campaign", "policy", "IPS", "cut", "SNIPS", "seen", "mean weight", "rows", "within")
    lines = [f"| {' | '.join(head)} |", f"|{' --- |' * len(head)}"]
    for campaign in CAMPAIGNS:
        for name, one in check(campaign).items():
            told = f"{one.ips} | {one.cut} | {one.snips} | {one.seen} | {one.weight}"
            within = "yes" if one.is_within else "no"
            lines.append(f"| {campaign} | {name} | {told} | {one.effective:,.0f} | {within} |")
    return lines


def places() -> list[str]:
    """Returns the table of positions."""
    lines = ["| campaign | position 1 | 2 | 3 |", f"|{' --- |' * 4}"]
    return lines + [f"| {c} | {' | '.join(map(str, by_position(c)))} |" for c in CAMPAIGNS]


def ways() -> list[str]:
    """Returns the table of what was learned."""
    lines = ["| campaign | naive | place | inverse propensity | both |", f"|{' --- |' * 5}"]
    for campaign in CAMPAIGNS:
        cells = [
            f"{v:.2f} ({low:.2f} to {high:.2f})" for v, low, high in learned(campaign).values()
        ]
        lines.append(f"| {campaign} | {' | '.join(cells)} |")
    return lines


def main() -> None:
    argparse.ArgumentParser(description=__doc__).parse_args()
    try:
        lines = [*estimates(), "", *places()]
        text = TEXT.format(learned="\n".join(ways()))
    except ArtifactError as error:
        print(f"not measured: {error}")
        return
    title = (
        "# Inverse propensity on real clicks\n\nOpen Bandit logs of obp 0.4.1; 95 % intervals.\n"
    )
    report = "\n".join([title, *lines, text])
    print(report)
    REPORT.parent.mkdir(parents=True, exist_ok=True)
    REPORT.write_text(report, encoding="utf-8")


if __name__ == "__main__":
    main()
