import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from simulation.audience import HOURS, Family, best_hour_of_day, draw_curves
from simulation.demo import DEMO_USER_IDS, audience, demo_user
from simulation.feed import draw_feed
from simulation.history import draw_histories

SEEDS = st.integers(0, 2**32 - 1)
FAMILIES = st.sampled_from(Family)


@given(seed=SEEDS, family=FAMILIES)
def test_curves_are_positive_weeks_of_mean_one(seed: int, family: Family) -> None:
    curves = draw_curves(np.random.default_rng(seed), 3, family)
    assert curves.shape == (3, HOURS)
    assert (curves > 0).all()
    assert curves.mean(axis=1) == pytest.approx(1.0)


@given(seed=SEEDS, family=FAMILIES, posts=st.integers(0, 40))
def test_histories_hold_every_post_and_no_engagement_without_one(
    seed: int, family: Family, posts: int
) -> None:
    rng = np.random.default_rng(seed)
    histories = draw_histories(rng, draw_curves(rng, 2, family), posts)
    assert histories.posts.sum(axis=1).tolist() == [posts, posts]
    assert not histories.engagements[histories.posts == 0].any()


def test_same_seed_gives_the_same_posts() -> None:
    first, second = (draw_feed(np.random.default_rng(3), 5, 4, Family.A) for _ in range(2))
    assert np.array_equal(first.actions, second.actions)
    assert np.array_equal(first.reach, second.reach)


@pytest.mark.parametrize("family", Family)
def test_feed_keeps_to_its_ranges(family: Family) -> None:
    feed = draw_feed(np.random.default_rng(4), 50, 10, family)
    assert 0 <= feed.quality_score.min() <= feed.quality_score.max() <= 10
    assert 0 <= feed.hour_of_week.min() <= feed.hour_of_week.max() < HOURS
    assert 0 <= feed.avg_engagement.min() <= feed.avg_engagement.max() <= 1
    assert (feed.actions <= feed.reach[:, None]).all()


def test_good_pictures_gain_more_and_recency_gains_nothing() -> None:
    feed = draw_feed(np.random.default_rng(5), 500, 20, Family.A)
    rate = np.log(feed.true_rates.sum(axis=1))
    assert np.corrcoef(feed.quality_score, rate)[0, 1] > 0.15
    assert abs(np.corrcoef(feed.age_hours, rate)[0, 1]) < 0.03


def test_family_b_spreads_its_best_hours_more_evenly_than_family_a() -> None:
    def largest_share(family: Family) -> float:
        best = best_hour_of_day(draw_curves(np.random.default_rng(6), 2000, family))
        return float(np.bincount(best, minlength=24).max() / len(best))

    assert largest_share(Family.B) < 0.1 < largest_share(Family.A)


@pytest.mark.parametrize("user_id", DEMO_USER_IDS)
def test_demo_users_say_that_they_are_simulated(user_id: int) -> None:
    user = demo_user(user_id)
    assert user.user_id == user_id
    assert user.user_name.endswith("(simulated)")
    assert user.posts


def test_demo_user_12_has_her_audience_on_tuesday_evening_in_sao_paulo() -> None:
    assert demo_user(12).time_zone == "America/Sao_Paulo"
    assert int(audience(12).argmax()) == 24 + 19
