"""Places and propensities are taken out of what the ranker learns."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as npst

from bench.position_bias import BEST, NAIVE, learned, measured, methods
from services.ranker.exposure import (
    MOST_WEIGHT,
    Exposure,
    Parts,
    effective_count,
    fit_apart,
    inverse_weights,
    place_lines,
)
from services.ranker.fit import log_linear, logistic, sigmoid
from simulation.audience import Family
from simulation.exposure import draw_log
from simulation.feed import draw_feed

PROPENSITIES = npst.arrays(
    np.float64, st.integers(1, 40), elements=st.one_of(st.floats(1e-9, 1.0), st.just(np.nan))
)


@given(PROPENSITIES)
def test_weights_are_positive_bounded_and_of_mean_one(propensity: np.ndarray) -> None:
    weight = inverse_weights(propensity)
    assert (weight > 0).all()
    assert weight.mean() == pytest.approx(1.0)
    assert weight.max() / weight.min() <= MOST_WEIGHT * (1 + 1e-9)


@given(PROPENSITIES)
def test_effective_count_lies_between_one_and_all(propensity: np.ndarray) -> None:
    count = effective_count(inverse_weights(propensity))
    assert 1 - 1e-9 <= count <= len(propensity) * (1 + 1e-9)


def test_rarer_posts_weigh_more() -> None:
    weight = inverse_weights(np.array([0.9, 0.5, 0.1, 1e-6]))
    assert weight[1] / weight[0] == pytest.approx(0.9 / 0.5)
    assert weight[2] / weight[0] == pytest.approx(9.0)
    assert weight[3] / weight[0] == pytest.approx(MOST_WEIGHT * 0.9)


def test_first_place_adds_nothing_and_unknown_places_are_the_mean() -> None:
    assert not place_lines(np.ones(1)).any()
    exposure = Exposure(np.array([1.0, 9.0, np.nan]), np.full(3, np.nan))
    places = exposure.places(np.ones(3))
    assert places[2].tolist() == [0.0] * places.shape[1]
    assert places[:2].mean(axis=0) == pytest.approx(np.zeros(places.shape[1]))
    assert Exposure.unknown(3).places(np.ones(3)).shape == (3, 0)


@pytest.mark.parametrize(("fit", "mean"), [(log_linear, np.exp), (logistic, sigmoid)])
def test_what_a_place_does_is_told_from_what_a_post_is(fit: object, mean: object) -> None:
    """Large x stands high and is looked at more; in truth x does half of what it seems to do."""
    rng = np.random.default_rng(1)
    x = rng.normal(size=20_000)
    position = np.clip(np.rint(5 - 3 * x + rng.normal(size=len(x))), 1, 20)
    rates = 0.05 * np.exp(0.3 * x) * position**-0.8
    seen = rng.binomial(400, rates) / 400
    design, ones = np.column_stack([x, np.ones(len(x))]), np.ones(len(x))
    places = Exposure(position, np.full(len(x), np.nan)).places(ones)
    naive, _ = fit_apart(fit, mean, Parts(design, places[:, :0], seen, ones))
    found, nuisance = fit_apart(fit, mean, Parts(design, places, seen, ones))
    assert naive[0] > 0.6
    assert found[0] == pytest.approx(0.3, abs=0.03)
    tenth = float(np.exp(place_lines(np.array([10.0]))[0] @ nuisance))
    assert tenth == pytest.approx(10**-0.8, abs=0.03)
    assert mean(design @ found).mean() == pytest.approx(seen.mean(), rel=1e-3)


@pytest.mark.parametrize("foresight", [0.0, 1.0])
def test_ranker_learned_apart_from_its_log_is_better_on_fresh_posts(foresight: float) -> None:
    rng = np.random.default_rng(2)
    log = draw_log(rng, draw_feed(rng, 1500, 20, Family.A), foresight=foresight)
    fresh = draw_feed(rng, 500, 20, Family.A)
    shown = draw_log(rng, fresh, explored=1.0)
    naive, best = (
        measured(learned(log, methods(log)[name], 1), fresh, shown) for name in (NAIVE, BEST)
    )
    assert best[0] > naive[0]
    assert abs(np.log(best[3])) < abs(np.log(naive[3]))
