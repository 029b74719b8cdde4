"""Does the ranker learn what posts are, or where they stood? Writes docs/bench/position_bias.md.

`python bench/position_bias.py` draws logs of an earlier ranker (simulation/exposure.py): it shows
20 of 100 posts, large accounts first; low places are looked at less; one feed in ten is shown in a
random order. In one world it knows no more than the inputs, in the other it also knows the appeal
that nothing shows, as a ranker with early engagement would. The served heads are learned from such
a log in four ways, and, as a mark, from a log of the same size in which every order was random. All
are measured on fresh posts of creators who were in no log: the order by true rates (NDCG@10 in
feeds of 100), AUC over the four actions, and calibration on a log in a random order. Every draw of
logs is a round; differences are paired by round. 2 minutes.
"""

import argparse
from collections.abc import Mapping
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from services.ranker.exposure import (
    MOST_WEIGHT,
    Exposure,
    effective_count,
    inverse_weights,
    place_lines,
)
from services.ranker.features import to_rows
from services.ranker.heads import ACTIONS, Heads
from services.ranker.learn import columns, examples, hide, learn
from services.ranker.measure import auc_of, ece_of, ndcg_of
from simulation.audience import Family
from simulation.exposure import LOOK_EXPONENT, FeedLog, draw_log
from simulation.feed import FeedTable, draw_feed

Array = NDArray[np.float64]
REPORT = Path("docs/bench/position_bias.md")
POSTS_EACH = 20
Case = tuple[str, Family]
WORLDS = {"knew the inputs": 0.0, "knew more": 1.0}  # of the hidden appeal
COLUMNS = (
    *("the ranker before", "family", "learned from", "NDCG@10", "over naive", "AUC", "ECE"),
    "told / seen",
)
NAIVE, BEST, RANDOM = "naive", "both", "a log in a random order"


def methods(log: FeedLog) -> dict[str, Exposure]:
    """Returns what each way of learning is told of the log's exposure."""
    nothing = np.full(len(log.position), np.nan)
    return {
        NAIVE: Exposure(nothing, nothing),
        "place": Exposure(log.position, nothing),
        "inverse propensity": Exposure(nothing, log.propensity),
        BEST: Exposure(log.position, log.propensity),
    }


def learned(log: FeedLog, exposure: Exposure, seed: int) -> Heads:
    """Learns heads as `services.ranker.train` does."""
    inputs = columns(log.posts)
    hidden = hide(np.random.default_rng(seed), inputs)
    return learn(examples(log.posts, hidden, exposure), examples(log.posts, inputs, exposure))


def measured(heads: Heads, fresh: FeedTable, shown: FeedLog) -> Array:
    """Returns NDCG@10 and AUC on fresh posts; ECE and told / seen on a random log of them."""
    found = heads.predict(to_rows(columns(fresh), len(fresh.reach)))
    told = heads.predict(to_rows(columns(shown.posts), len(shown.position)))["actions"]
    gains = fresh.true_rates.sum(axis=1)
    auc = [auc_of(found["actions"][:, i], fresh, i) for i in range(len(ACTIONS))]
    ece = [ece_of(told[:, i], shown.posts, i) for i in range(len(ACTIONS))]
    seen = shown.posts.actions.sum() / shown.posts.reach.sum()
    mean = float(np.average(told.sum(axis=1), weights=shown.posts.reach))
    return np.array(
        [ndcg_of(found["log_value"][:, 0], gains), np.mean(auc), np.sum(ece), mean / seen]
    )


def one_round(
    seed: int, creators: int, foresight: float
) -> tuple[dict[tuple[str, Family], Array], Mapping[str, float]]:
    """Returns the measures by method and family, and facts of the log."""
    rng = np.random.default_rng([seed, 7])
    posts = draw_feed(rng, creators, POSTS_EACH, Family.A)
    log, even = draw_log(rng, posts, foresight=foresight), draw_log(rng, posts, explored=1.0)
    ways = {name: learned(log, exposure, seed) for name, exposure in methods(log).items()}
    ways[RANDOM] = learned(even, methods(even)[NAIVE], seed)
    found = {}
    for family in Family:
        fresh = draw_feed(rng, creators // 2, POSTS_EACH, family)
        shown = draw_log(rng, fresh, explored=1.0)
        found |= {(name, family): measured(heads, fresh, shown) for name, heads in ways.items()}
    tenth = place_lines(np.array([10.0]))[0]
    facts = {
        "posts shown": float(len(log.position)),
        "effective": effective_count(inverse_weights(log.propensity)),
        "tenth, place": float(np.exp(ways["place"].place @ tenth)),
        "tenth, both": float(np.exp(ways[BEST].place @ tenth)),
    }
    return found, facts


def row(name: str, family: Family, rounds: list[dict[Case, Array]]) -> str:
    """Returns a line of the table: means over rounds, and NDCG@10 against the naive way."""
    values = np.array([found[name, family] for found in rounds])
    naive = np.array([found[NAIVE, family] for found in rounds])
    gain = values[:, 0] - naive[:, 0]
    error = gain.std(ddof=1) / np.sqrt(len(rounds)) if len(rounds) > 1 else np.nan
    ndcg, auc, ece, told = values.mean(axis=0)
    paired = "" if name == NAIVE else f"{gain.mean():+.3f} ± {1.96 * error:.3f}"
    cells = (f"{ndcg:.3f}", paired, f"{auc:.3f}", f"{ece:.4f}", f"{told:.2f}")
    return f"| {family.value} | {name} | {' | '.join(cells)} |"


def text(facts: list[Mapping[str, float]], rounds: int) -> str:
    """Returns what the table means, with the facts of the logs."""
    mean = {name: np.mean([one[name] for one in facts]) for name in facts[0]}
    return TEXT.format(
        rounds=rounds,
        shown=mean["posts shown"],
        effective=mean["effective"],
        most=MOST_WEIGHT,
        tenth=10.0**-LOOK_EXPONENT,
        place=mean["tenth, place"],
        both=mean["tenth, both"],
    )


TEXT = """
{rounds} rounds of {shown:,.0f} posts shown; AUC is the mean of the actions, ECE their sum, on a log
in a random order; ± is 95 % over rounds.

*Naive*: an action per impression, as the log has it. The earlier ranker favoured large accounts,
and high places are looked at more, so large accounts seem to be liked more. *Place*: the log of the
place beside the inputs, left out when served. It helps where the earlier ranker knew no more than
the inputs say, and does harm where it did: it had put the posts with appeal high, so the place
takes their appeal up too (the tenth place seems to be looked at {place:.2f} times as often as the
first; the truth is {tenth:.2f}). *Inverse propensity*: posts weigh 1 / the probability with which
they came to be shown, at most {most:.0f}; alone it leaves the places in. *Both* is what `fomofeed
train ranker` does with the columns `position` and `propensity` (tenth place: {both:.2f}): it
comes to about what a log in a random order gives, for a tenth of such feeds. The weights cost
precision: {shown:,.0f} posts tell as much as {effective:,.0f} equal ones.

The cure needs what only the one who shows the feed has: some randomness, and its probabilities
written down. Without a random tenth of the feeds no weight could bring back what was never shown.
"""


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--creators", type=int, default=4000, help="of 20 posts each, a round")
    parser.add_argument("--rounds", type=int, default=6, help="in each world")
    options = parser.parse_args()
    lines, facts = [f"| {' | '.join(COLUMNS)} |", f"|{' --- |' * len(COLUMNS)}"], []
    for world, foresight in WORLDS.items():
        rounds = [one_round(seed, options.creators, foresight) for seed in range(options.rounds)]
        found = [one for one, _ in rounds]
        facts = [fact for _, fact in rounds]
        names = dict.fromkeys(name for name, _ in found[0])
        lines += [f"| {world} {row(name, family, found)}" for family in Family for name in names]
    report = "\n".join([*lines, text(facts, options.rounds)])
    print(report)
    REPORT.parent.mkdir(parents=True, exist_ok=True)
    REPORT.write_text(f"# Place and exposure\n\n{report}", encoding="utf-8")


if __name__ == "__main__":
    main()
