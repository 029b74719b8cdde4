import math

import numpy as np
import pytest
import yaml
from hypothesis import given
from hypothesis import strategies as st

from services.timing.lifts import LIFT_CAP, Lifts, fit_lifts
from services.timing.prior_file import Trained, read, to_bytes
from services.timing.spread import coverage
from services.timing.substitute import population_curve, population_hours
from simulation.audience import Family
from simulation.feed import draw_feed


def test_prior_is_half_fitted_and_half_rotated(trained: Trained) -> None:
    half = len(trained.prior.curves) // 2
    assert trained.prior.weights.sum() == pytest.approx(1.0)
    assert trained.prior.weights[:half].sum() == pytest.approx(0.5)
    assert trained.prior.curves.mean(axis=1) == pytest.approx(1.0)


def test_file_keeps_what_was_trained(
    trained: Trained, tmp_path_factory: pytest.TempPathFactory
) -> None:
    path = tmp_path_factory.mktemp("prior") / "prior.npz"
    path.write_bytes(to_bytes(trained))
    again = read(path)
    assert again.prior.curves == pytest.approx(trained.prior.curves, rel=2e-3)
    assert np.array_equal(again.prior.weights, trained.prior.weights)
    assert again.lifts.quality == pytest.approx(trained.lifts.quality, abs=1e-4)
    assert to_bytes(trained) == to_bytes(trained)


@given(score=st.floats(0, 10))
def test_lifts_are_ordered_and_capped(trained: Trained, score: float) -> None:
    low, middle, high = trained.lifts.of_quality(score)
    assert 0 < low <= middle <= high <= LIFT_CAP


def test_lifts_are_one_where_there_is_nothing_to_lift(trained: Trained) -> None:
    assert trained.lifts.of_quality(None) == (1.0, 1.0, 1.0)
    assert trained.lifts.of_video(False) == (1.0, 1.0, 1.0)
    assert trained.lifts.of_quality(5.5)[1] == pytest.approx(1.0)


def test_better_pictures_and_videos_lift(trained: Trained) -> None:
    middles = [trained.lifts.of_quality(score)[1] for score in (3.0, 5.5, 7.0, 8.5)]
    assert middles == sorted(middles)
    assert trained.lifts.of_video(True)[1] > 1.1


def test_lift_of_video_is_found_again_in_simulated_posts() -> None:
    """The generator's video: +0.06 log-odds of a like and +0.12 log reach, a little interaction."""
    lifts = fit_lifts(
        np.random.default_rng(1), draw_feed(np.random.default_rng(2), 800, 20, Family.A)
    )
    low, _, high = np.exp(lifts.video)
    assert low < math.exp(0.24) and high > math.exp(0.14)


def test_capped_lift_says_no_more_than_the_cap() -> None:
    lifts = Lifts(quality=np.full((3, 7), 2.0), video=np.full(3, 2.0))
    assert lifts.of_quality(9.0) == (LIFT_CAP, LIFT_CAP, LIFT_CAP)


def test_coverage_counts_hours_between_the_percentiles() -> None:
    draws = np.linspace(0.0, 1.0, 101)[:, None] * np.ones(168)
    curve = np.r_[np.full(84, 0.5), np.full(84, 0.95)]
    assert coverage(draws, curve) == 0.5


def test_table_for_the_gateway_peaks_where_the_population_does(trained: Trained) -> None:
    table = yaml.safe_load(population_hours(trained.prior))
    rates = table["optimal_hour_of_week"]["peak"]["prior_rate"]
    assert np.argmax(rates) == population_curve(trained.prior).argmax()
    assert table["optimal_hour"]["peak"] == table["optimal_hour_of_week"]["peak"]
