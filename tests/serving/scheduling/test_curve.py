"""How many rows of a batch are worth their time, learned while serving."""

import math
from collections.abc import Callable

import pytest

from serving.scheduling.scheduler import BatchingConfig, Scheduler
from serving.scheduling.service_time import Curve
from tests.serving.scheduling.closed_loop import closed_loop

Seconds = Callable[[int, int], float]


def image(_: int, rows: int) -> float:
    """EfficientNet-Lite0 on one core with 1 MB of cache; .2 ms of each call are the server's."""
    row_s = {1: 5.44, 2: 5.29, 4: 5.69, 8: 6.09, 16: 6.97, 32: 7.20}
    octave = 2 ** (rows.bit_length() - 1)
    return rows * row_s[octave] * 1e-3 + 2e-4


def image_elsewhere(_: int, rows: int) -> float:
    """A processor on which a batch of 16 is best."""
    return rows * (6 + abs(math.log2(rows) - 4)) * 1e-3


def text(_: int, rows: int) -> float:
    """Every further row makes a batch better."""
    return 0.0035 + 0.0007 * rows


@pytest.mark.parametrize("seconds", [image, image_elsewhere, text])
@pytest.mark.parametrize("callers", [8, 32])
def test_nobody_has_to_know_the_best_size_of_a_batch(seconds: Seconds, callers: int) -> None:
    learned, _ = closed_loop(callers, seconds, [0], max_rows=32)
    fixed = [closed_loop(callers, seconds, [0], max_rows=rows)[0] for rows in (1, 2, 4, 8, 16, 32)]
    assert learned >= 0.97 * max(fixed)


def learned(seconds: Seconds, sizes: tuple[int, ...] = (1, 2, 4, 8, 16, 32)) -> Curve:
    curve = Curve()
    for rows in sizes * 5:
        curve.observe(rows, seconds(0, rows))
    return curve


def test_no_size_is_too_large_until_one_is_seen_to_be_worse() -> None:
    assert Curve().best_work() == math.inf
    assert learned(image, (1, 2)).best_work() == math.inf
    assert learned(image, (1, 2, 4)).best_work() == 2
    assert learned(text).best_work() == math.inf


def test_another_size_is_tried_now_and_then() -> None:
    curve, limits = learned(image_elsewhere), list[float]()
    for _ in range(640):
        limits.append(curve.best_work())
        curve.observe(16, image_elsewhere(0, 16))
    assert set(limits) == {8, 16, 32}
    assert limits.count(8) == limits.count(32) == 10


def test_what_was_long_not_seen_is_forgotten() -> None:
    curve = learned(image, (1, 2, 4, 8))
    for _ in range(3000):
        curve.observe(8, image(0, 8))
    assert curve.best_work() == math.inf


def test_a_caller_of_many_rows_is_run_whole_whatever_is_best() -> None:
    scheduler = Scheduler(BatchingConfig(max_batch_rows=32))
    for rows in (1, 2, 4, 8) * 5:
        scheduler.service_time.observe(None, rows, image(0, rows), 0.0)
    for index, rows in enumerate((8, 1, 1, 1)):
        entry = scheduler.entry(index, 0.0, rows=rows, deadline=10.0)
        assert scheduler.admit(entry, 0.0) == []
    batches = [batch.rows for batch, _ in iter(lambda: scheduler.take(0.0), (None, [])) if batch]
    assert batches == [8, 2, 1]
