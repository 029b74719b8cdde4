from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from cluster.load.arrivals import ScheduleError, constant, poisson, read_trace, share

rates = st.floats(0.5, 2_000)
lengths = st.floats(0.1, 5)


@given(rates, lengths, st.integers(0, 2**32))
def test_poisson_arrivals_come_from_the_seed_in_order_and_within_the_time(
    rate: float, seconds: float, seed: int
) -> None:
    offsets = poisson(rate, seconds, seed)
    assert np.array_equal(offsets, poisson(rate, seconds, seed))
    assert (np.diff(offsets) >= 0).all()
    assert ((offsets >= 0) & (offsets < seconds)).all()


def test_poisson_gaps_have_the_mean_and_the_deviation_of_an_exponential() -> None:
    gaps = np.diff(poisson(1_000, 200, seed=7))
    assert gaps.mean() == pytest.approx(1e-3, rel=0.01)
    assert gaps.std() == pytest.approx(1e-3, rel=0.02)
    after, before = gaps[1:], gaps[:-1]
    assert abs(np.corrcoef(before, after)[0, 1]) < 0.01


@given(rates, lengths)
def test_constant_arrivals_are_evenly_spaced(rate: float, seconds: float) -> None:
    offsets = constant(rate, seconds)
    assert offsets[0] == 0
    assert offsets[-1] < seconds
    assert np.allclose(np.diff(offsets), 1 / rate)
    assert len(offsets) == pytest.approx(rate * seconds, abs=1)


@given(st.integers(1, 9), st.integers(0, 100))
def test_the_shares_of_the_processes_are_the_schedule(count: int, calls: int) -> None:
    offsets = np.arange(calls, dtype=np.float64)
    dealt = np.concatenate([share(offsets, index, count) for index in range(count)])
    assert np.array_equal(np.sort(dealt), offsets)


def test_a_trace_is_sorted_and_starts_at_zero(tmp_path: Path) -> None:
    trace = tmp_path / "trace.txt"
    trace.write_text("# seconds\n12.5\n10\n11\n")
    assert read_trace(trace).tolist() == [0, 1, 2.5]


@pytest.mark.parametrize("content", ["", "one\ntwo\n", "1\nnan\n"])
def test_a_trace_without_times_is_refused(tmp_path: Path, content: str) -> None:
    trace = tmp_path / "trace.txt"
    trace.write_text(content)
    with pytest.raises(ScheduleError):
        read_trace(trace)


@pytest.mark.parametrize(("rate", "seconds"), [(0, 1), (1, 0), (-1, 1), (1e9, 1e9)])
def test_an_impossible_schedule_is_refused(rate: float, seconds: float) -> None:
    with pytest.raises(ScheduleError):
        poisson(rate, seconds, seed=1)
