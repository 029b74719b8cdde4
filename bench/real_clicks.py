"""Is the arithmetic of inverse propensity right on real logs? Writes docs/bench/real_clicks.md.

`python bench/real_clicks.py` reads the Open Bandit logs of a shop's page: in each campaign one log
of items shown at random and one shown by Thompson sampling, 10,000 rows each with the probability
of what was shown. From either log it estimates what the *other* policy's clicks would be, and
compares with the clicks that the other log really has. The Thompson policy is taken as its shares
of items, whoever looked on.
"""

import argparse
from pathlib import Path

import numpy as np

from bench.real.clicks import CAMPAIGNS, Estimate, Log, estimate, read_log
from serving.models.artifacts import ArtifactError

REPORT = Path("docs/bench/real_clicks.md")


def check(campaign: str) -> list[tuple[str, Estimate, Estimate, Estimate]]:
    """Returns for each direction: its name, what IPS says, what was seen, the mean weight."""
    random, thompson = read_log("random", campaign), read_log("bts", campaign)
    count = int(max(random.item.max(), thompson.item.max())) + 1
    uniform = np.full(count, 1.0 / count)
    shares = np.bincount(thompson.item, minlength=count) / len(thompson.item)
    return [
        ("uniform, from Thompson's log", *_both(thompson, uniform, random)),
        ("Thompson's shares, from the random log", *_both(random, shares, thompson)),
    ]


def by_position(campaign: str) -> list[Estimate]:
    """Returns the click rates of the three positions in the random log."""
    log = read_log("random", campaign)
    return [estimate(log.click[log.position == position]) for position in (1, 2, 3)]


def _both(log: Log, wanted: np.ndarray, other: Log) -> tuple[Estimate, Estimate, Estimate]:
    weights = log.weights(wanted)
    return estimate(log.click * weights), estimate(other.click), estimate(weights)


TEXT = """
The mean weight is 1 where the arithmetic and the propensities agree; every estimate should lie
within its interval of what was seen. A propensity of one in a million (women, Thompson) makes an
estimate worthless and its normal interval a guess: such weights must be clipped before use.
Thompson's shares are themselves counted from 10,000 rows, which the intervals leave out.

With 38 to 69 clicks a log this is a check of the arithmetic and no more: no policy and no ranker
can be told better than another here, and the positions' rates cannot be told apart. The served
ranker has not been run on these logs, which have other features; its training on own posts uses
no propensities, since posts carry none.
"""


def main() -> None:
    argparse.ArgumentParser(description=__doc__).parse_args()
    lines = ["| campaign | policy | IPS | seen | mean weight | within |", f"|{' --- |' * 6}"]
    places = ["", "| campaign | position 1 | 2 | 3 |", f"|{' --- |' * 4}"]
    try:
        for campaign in CAMPAIGNS:
            for name, found, seen, weight in check(campaign):
                within = "yes" if found.overlaps(seen) else "no"
                lines.append(f"| {campaign} | {name} | {found} | {seen} | {weight} | {within} |")
            rates = " | ".join(map(str, by_position(campaign)))
            places.append(f"| {campaign} | {rates} |")
    except ArtifactError as error:
        print(f"not measured: {error}")
        return
    print("\n".join([*lines, *places]))
    title = (
        "# Inverse propensity on real clicks\n\nOpen Bandit logs of obp 0.4.1; 95 % intervals.\n\n"
    )
    REPORT.parent.mkdir(parents=True, exist_ok=True)
    REPORT.write_text(title + "\n".join([*lines, *places]) + "\n" + TEXT, encoding="utf-8")


if __name__ == "__main__":
    main()
