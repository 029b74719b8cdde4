import random

import pytest
from hypothesis import given
from hypothesis import strategies as st

from serving.scheduling.service_time import Line, ServiceTime


def learned(a: float, b: float, noise: float = 0.0, count: int = 200, seed: int = 1) -> ServiceTime:
    source, model = random.Random(seed), ServiceTime()
    for at in range(count):
        rows = source.randint(1, 32)
        seconds = (a + b * rows) * (1 + source.uniform(-noise, noise))
        model.observe("x", rows, seconds, float(at))
    return model


@given(st.floats(0, 0.05), st.floats(1e-5, 0.05))
def test_a_line_is_learned(a: float, b: float) -> None:
    model = learned(a, b)
    for rows in (1, 7, 32):
        assert model.predict("x", rows) == pytest.approx(a + b * rows, rel=0.02)


def test_prediction_error_stays_within_15_percent_under_noise() -> None:
    model = learned(0.004, 0.001, noise=0.2)
    errors = [abs(model.predict("x", r) / (0.004 + 0.001 * r) - 1) for r in range(1, 33)]
    assert sorted(errors)[int(0.95 * len(errors))] <= 0.15


def test_one_stall_teaches_little() -> None:
    model = learned(0.004, 0.001)
    model.observe("x", 8, 5.0, 300.0)
    assert model.predict("x", 8) == pytest.approx(0.012, rel=0.1)


def test_a_new_regime_is_learned_within_a_few_batches() -> None:
    model = learned(0.004, 0.001)
    for at in range(8):
        model.observe("x", 8, 0.048, 300.0 + at)
    assert model.predict("x", 8) == pytest.approx(0.048, rel=0.1)


def test_one_batch_size_is_counted_per_row() -> None:
    model = ServiceTime()
    for at in range(5):
        model.observe("x", 4, 0.020, float(at))
    assert model.predict("x", 8) == pytest.approx(0.040)


def test_calls_of_one_size_keep_the_shares_of_call_and_rows() -> None:
    model = learned(0.004, 0.00001)
    for at in range(400):  # so many that nothing else is remembered, and fifty times as slow
        model.observe("x", 1, 0.2005, 300.0 + at)
    assert model.predict("x", 1) == pytest.approx(0.2005, rel=0.01)
    assert model.predict("x", 32) == pytest.approx(0.2, rel=0.1)


def test_who_says_so_has_the_first_calls_time_taken_for_its_own() -> None:
    model = ServiceTime(work_share=0.0)
    for at in range(5):
        model.observe("x", 1, 0.020, float(at))
    assert model.predict("x", 32) == pytest.approx(0.020)


def test_a_batch_far_larger_than_all_before_is_believed() -> None:
    model = ServiceTime(work_share=0.0)
    for at in range(100):
        model.observe("x", 1, 0.020, float(at))
    model.observe("x", 32, 0.640, 100.0)
    assert model.predict("x", 32) == pytest.approx(0.640, rel=0.05)


def test_nobody_is_refused_on_a_guess() -> None:
    model = ServiceTime()
    assert model.predict("unknown", 8) == 0
    assert model.line("unknown") is None


def test_an_old_prediction_is_not_fresh() -> None:
    model = learned(0.004, 0.001)
    line = model.line("x")
    assert line is not None
    assert line.is_fresh(199.5)
    assert not line.is_fresh(260.0)


@pytest.mark.parametrize("rows", [1, 3, 8])
def test_a_stall_of_the_first_call_is_forgotten_when_as_many_rows_take_less(rows: int) -> None:
    line = Line()
    line.observe(1, 4.0, now=0.0)
    line.observe(rows, 0.005, now=4.0)
    assert line.predict(rows) == pytest.approx(0.005)


def test_one_call_alone_is_believed_for_as_long_as_it_took() -> None:
    line = Line()
    line.observe(1, 4.0, now=0.0)
    assert line.is_fresh(4.0)
    assert not line.is_fresh(4.1)
    line.observe(1, 4.0, now=4.1)
    assert line.is_fresh(80.0)


def test_a_young_line_keeps_the_price_of_a_call_apart_from_that_of_rows() -> None:
    line = Line()
    line.observe(1, 0.101, now=0.0)
    line.observe(8, 0.108, now=1.0)
    assert (line.a, line.b) == pytest.approx((0.1, 0.001))


@given(st.lists(st.tuples(st.integers(1, 64), st.floats(0, 10)), max_size=60))
def test_parameters_are_never_negative(observations: list[tuple[int, float]]) -> None:
    model = ServiceTime()
    for at, (rows, seconds) in enumerate(observations):
        model.observe("x", rows, seconds, float(at))
    for _, line in model:
        assert min(line.a, line.b) >= 0


def test_what_is_remembered_of_shapes_is_bounded() -> None:
    model = ServiceTime()
    for bucket in range(5000):
        model.observe(bucket, 1, 0.01, 0.0)
    known = [bucket for bucket, _ in model]
    assert len(known) <= 1024
    assert known[-1] == 4999


def test_what_was_learned_is_told_by_the_shapes_seen_last() -> None:
    known = ServiceTime()
    for number in range(40):
        known.observe(((16,), (3, number)), 2, 0.004, now=float(number))
    told = known.learned()
    assert len(told) == 16
    assert told[0] == ("16,3x39", 0.0, pytest.approx(0.002))


def test_calls_of_no_rows_alone_are_learned_from() -> None:
    known = ServiceTime()
    for _ in range(12):
        known.observe("empty", 0, 0.001, now=0.0)
    assert known.predict("empty", 1) == pytest.approx(0.001)
