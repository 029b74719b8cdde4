import numpy as np
import pytest

from simulation.audience import Family
from simulation.exposure import FEED_POSTS, SEEN_PLACES, draw_log, looks
from simulation.feed import draw_feed


def test_posts_that_were_shown_stand_for_those_that_were_not() -> None:
    rng = np.random.default_rng(1)
    posts = draw_feed(rng, 500, 20, Family.A)
    logs = [draw_log(rng, posts, explored=0.5) for _ in range(5)]
    assert set(logs[0].position.tolist()) == set(range(1, SEEN_PLACES + 1))
    stand_for = np.mean([(1.0 / log.propensity).sum() for log in logs])
    assert stand_for == pytest.approx(len(posts.reach), rel=0.1)


def test_low_places_gain_less_for_the_same_posts() -> None:
    rng = np.random.default_rng(2)
    log = draw_log(rng, draw_feed(rng, 1000, 20, Family.A), explored=1.0)
    due = log.posts.reach * log.posts.true_rates.sum(axis=1)
    for place in (1.0, 5.0, 20.0):
        there = log.position == place
        share = log.posts.actions[there].sum() / due[there].sum()
        assert share == pytest.approx(float(looks(np.array(place))), rel=0.05)


def test_a_random_order_shows_every_post_alike() -> None:
    rng = np.random.default_rng(3)
    posts = draw_feed(rng, 500, 20, Family.B)
    log = draw_log(rng, posts, explored=1.0)
    assert np.unique(log.propensity).tolist() == [SEEN_PLACES / FEED_POSTS]
    shown = np.log(log.posts.true_rates.sum(axis=1)).mean()
    assert shown == pytest.approx(np.log(posts.true_rates.sum(axis=1)).mean(), abs=0.04)


def test_a_ranker_that_knows_more_shows_posts_with_hidden_appeal() -> None:
    def appeal(foresight: float) -> float:
        rng = np.random.default_rng(4)
        log = draw_log(rng, draw_feed(rng, 500, 20, Family.A), foresight=foresight)
        rates = (log.posts.true_rates.sum(axis=1), log.posts.knowable_rates.sum(axis=1))
        return float(np.log(rates[0] / rates[1]).mean())

    assert appeal(1.0) > appeal(0.0) + 0.1
