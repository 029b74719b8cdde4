"""An interval is moved until it holds for posts and creators that it was not fitted to."""

from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from services.ranker.features import UNKNOWN, to_rows
from services.ranker.heads import Heads
from services.ranker.intervals import conformal, hold_for_creators, hold_unknown, outside
from services.ranker.learn import columns, examples, learn
from simulation.audience import Family
from simulation.feed import FeedTable, draw_feed

VALUES = st.lists(st.floats(-10, 10), min_size=1, max_size=200)


@given(VALUES, st.floats(0.05, 0.95))
def test_at_least_the_level_of_values_stays_below(values: list[float], level: float) -> None:
    found = conformal(np.array(values), level)
    assert (np.array(values) <= found).mean() >= min(1.0, level)


@pytest.mark.parametrize("draw", ["normal", "standard_cauchy", "standard_exponential"])
def test_a_new_value_stays_below_with_the_chance_of_the_level(draw: str) -> None:
    """Whatever the distribution, also of nineteen values alone."""
    rng = np.random.default_rng(1)
    drawn = getattr(rng, draw)(size=(4000, 20))
    below = [row[-1] <= conformal(row[:-1], 0.8) for row in drawn]
    assert np.mean(below) == pytest.approx(0.8, abs=0.02)


@pytest.fixture(scope="module")
def feed() -> FeedTable:
    return draw_feed(np.random.default_rng(2), 40, 200, Family.A)


@pytest.fixture(scope="module")
def too_narrow(feed: FeedTable) -> Heads:
    """Heads that tell half the width they should."""
    other = draw_feed(np.random.default_rng(3), 200, 20, Family.A)
    known = examples(other, columns(other))
    heads = learn(known, known)
    middle = heads.reach[:, 1:2]
    return replace(heads, reach=middle + 0.5 * (heads.reach - middle))


def inside(heads: Heads, inputs: dict[str, np.ndarray], feed: FeedTable) -> np.ndarray:
    return outside(heads, to_rows(inputs, len(feed.reach)), feed.reach) <= 0


def test_it_is_widened_until_nine_creators_in_ten_are_held(
    feed: FeedTable, too_narrow: Heads
) -> None:
    known = columns(feed)
    assert inside(too_narrow, known, feed).mean() < 0.6
    held = hold_for_creators(too_narrow, known, feed.reach, feed.creator)
    own = np.bincount(feed.creator, inside(held, known, feed)) / 200
    assert (own >= 0.8).mean() >= 0.9
    assert np.quantile(own, 0.1) == pytest.approx(0.8, abs=0.02)  # and no further
    assert np.array_equal(held.reach[:, 1], too_narrow.reach[:, 1])  # the median stays


def test_an_unknown_input_widens_it_until_it_holds_as_before(
    feed: FeedTable, too_narrow: Heads
) -> None:
    known = columns(feed)
    held = hold_unknown(too_narrow, known, feed.reach)
    before = inside(held, known, feed)
    assert np.array_equal(before, inside(too_narrow, known, feed))  # whole posts are as they were
    for name in ("quality_score", "hour_of_week", "follower_count", "avg_engagement"):
        hidden = known | {name: np.full(len(feed.reach), UNKNOWN)}
        assert inside(held, hidden, feed).mean() == pytest.approx(before.mean(), abs=0.001)
