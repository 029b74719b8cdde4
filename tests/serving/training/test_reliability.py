from xml.etree import ElementTree

import numpy as np
import pytest

from serving.training.compare import mean_over
from serving.training.reliability import bins_of, draw, expected_error


def test_intervals_hold_honest_predictions_four_times_in_five() -> None:
    inside = []
    for seed in range(30):
        rng = np.random.default_rng(seed)
        told = rng.uniform(0.1, 0.9, 3000)
        bins = bins_of(told, rng.binomial(1, told).astype(float), np.ones(3000))
        assert sum(b.count for b in bins) == 3000
        assert expected_error(bins) < 0.06
        inside += [b.low <= b.told <= b.high for b in bins]
    assert np.mean(inside) == pytest.approx(0.8, abs=0.06)


def test_predictions_that_boast_are_found_out() -> None:
    rng = np.random.default_rng(2)
    told = rng.uniform(0.1, 0.9, 5000)
    bins = bins_of(told, rng.binomial(1, told / 2).astype(float), np.ones(5000))
    assert all(b.high < b.told for b in bins)
    assert expected_error(bins) == pytest.approx(0.25, abs=0.03)


def test_plot_has_a_point_for_each_bin_and_is_well_formed() -> None:
    told = np.linspace(0.1, 0.9, 100)
    bins = bins_of(told, told, np.ones(100))
    root = ElementTree.fromstring(draw({"<like> & more": bins, "share": bins}))
    assert len(root.findall(".//{http://www.w3.org/2000/svg}circle")) == 20


def test_interval_of_creators_is_wider_than_their_posts_would_make_it() -> None:
    rng = np.random.default_rng(3)
    group = np.repeat(np.arange(20), 100)
    values = rng.normal(size=20)[group] + rng.normal(0, 0.1, 2000)
    of_creators = mean_over(values, np.ones(2000), group)
    of_posts = mean_over(values, np.ones(2000), np.arange(2000))
    assert of_creators.p90 - of_creators.p10 > 4 * (of_posts.p90 - of_posts.p10)
    assert of_creators.p10 < of_creators.mean < of_creators.p90


def test_one_creator_alone_is_resampled_by_posts() -> None:
    values = np.random.default_rng(4).normal(size=400)
    found = mean_over(values, np.ones(400), np.zeros(400, dtype=np.int64))
    assert found.p90 - found.p10 == pytest.approx(2 * 1.28 / 20, rel=0.2)
