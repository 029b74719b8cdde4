"""Who runs next, and with whom: the scheduler alone, on a clock of its own."""

import math
from collections.abc import Sequence

import pytest

from serving.request import Criticality
from serving.scheduling.scheduler import BatchingConfig, Scheduler
from serving.scheduling.service_time import ServiceTime
from tests.serving.scheduling.closed_loop import closed_loop

# MiniLM in int8 on one core: 3.5 ms a call and .133 ms a token, texts of 8 to 64 tokens.
CALL_S, TOKEN_S, LENGTHS = 0.0035, 0.000133, range(8, 65, 4)


def learned(call_s: float, row_s: dict[int, float]) -> ServiceTime:
    """What is known after batches of several sizes of each bucket."""
    times = ServiceTime()
    for bucket, seconds in row_s.items():
        for rows in (1, 2, 4, 1, 2, 4):
            times.observe(bucket, rows, call_s + seconds * rows, 0.0)
    return times


def scheduler_of(waiting: str, call_s: float, row_s: float) -> Scheduler:
    """A scheduler with calls that wait: a letter is a bucket, a capital one is critical."""
    times = learned(call_s, dict.fromkeys(map(ord, "abc"), row_s))
    scheduler = Scheduler(BatchingConfig(), service_time=times)
    for at, letter in enumerate(waiting):
        kind = Criticality.CRITICAL if letter.isupper() else Criticality.DEFAULT
        scheduler.admit(
            scheduler.entry(at, at * 1e-3, bucket=ord(letter.lower()), criticality=kind), at * 1e-3
        )
    return scheduler


def taken(waiting: str, call_s: float, row_s: float) -> list[int]:
    """Returns the places in the queue of those who run in the next batch."""
    batch, _ = scheduler_of(waiting, call_s, row_s).take(0.1)
    assert batch
    return [entry.item for entry in batch.entries]


@pytest.mark.parametrize(
    ("waiting", "call_s", "row_s", "batch"),
    [
        ("abaa", 0.0, 1.0, [0]),  # calls cost nothing: a mate saves nobody anything
        ("aaba", 0.1, 1.0, [0, 1]),  # but who passes nobody may come along
        ("abbba", 1.0, 1.0, [0, 4]),  # as much as a row: all may pass
        ("abbba", 1.0, 0.0, [0, 4]),
        ("abba", 1.0, 3.0, [0]),  # 1 s for the mate, 2 x 3 s for those whom it passes
        ("abbabbbbb", 1.0, 3.0, [0, 3]),  # 1 s each for six
        ("abbabbbb", 1.0, 3.0, [0]),
    ],
)
def test_a_mate_joins_if_it_saves_more_waiting_than_it_costs(
    waiting: str, call_s: float, row_s: float, batch: list[int]
) -> None:
    assert taken(waiting, call_s, row_s) == batch


def test_who_waits_in_a_higher_class_counts_as_passed_wherever_it_came() -> None:
    waiting = "Aab"
    assert taken(waiting, 1.0, 2.0) == [0, 1]
    assert taken(waiting.replace("b", "B"), 1.0, 2.0) == [0]


def test_the_price_of_a_call_is_found_out_while_only_one_size_is_known() -> None:
    scheduler = scheduler_of("abba", 0.0, 1.0)
    scheduler.service_time = ServiceTime()
    for bucket in map(ord, "ab"):
        scheduler.service_time.observe(bucket, 1, 1.0, 0.0)
    batch, _ = scheduler.take(0.1)
    assert batch
    assert batch.rows == 2


@pytest.mark.parametrize(("callers", "gain"), [(8, 1.04), (32, 1.25), (64, 1.4)])
def test_batches_of_many_shapes_serve_more_and_keep_the_tail_of_first_come_first_served(
    callers: int, gain: float
) -> None:
    def seconds(tokens: int, rows: int) -> float:
        return CALL_S + TOKEN_S * tokens * rows

    one_by_one, p99_in_order = closed_loop(callers, seconds, LENGTHS, max_rows=1)
    rate, p99 = closed_loop(callers, seconds, LENGTHS, max_rows=32)
    assert rate >= gain * one_by_one
    assert p99 <= 1.05 * p99_in_order


def order_of(calls: Sequence[tuple[float, float]]) -> list[int]:
    """Returns in which order calls run that came at a time with so many seconds left."""
    scheduler = Scheduler(BatchingConfig(max_batch_rows=1))
    for index, (at, left) in enumerate(calls):
        scheduler.admit(scheduler.entry(index, at, deadline=at + left), at)
    order = []
    while (batch := scheduler.take(0.1)[0]) is not None:
        order.append(batch.entries[0].item)
    return order


def test_of_those_who_came_together_the_earliest_deadline_goes_first() -> None:
    lefts = [0.3, math.inf, 0.2, 20.0, 1.2, 0.9, 29.0]
    expected = sorted(range(len(lefts)), key=lambda index: lefts[index])
    assert order_of([(0.0, left) for left in lefts]) == expected


def test_within_a_second_the_earliest_deadline_goes_first_whoever_came_first() -> None:
    assert order_of([(0.0, 0.9), (0.01, 0.88), (0.02, 0.5)]) == [2, 1, 0]


@pytest.mark.parametrize(("sent_s", "rounded_s"), [(10.0, 10.1), (2.0, 2.01), (60.0, 60.1)])
def test_a_deadline_rounded_up_on_the_wire_costs_no_place_in_the_queue(
    sent_s: float, rounded_s: float
) -> None:
    lefts = [rounded_s, rounded_s, sent_s, rounded_s, sent_s]  # who comes 11 ms later waits longer
    assert order_of([(at * 0.011, left) for at, left in enumerate(lefts)]) == [0, 1, 2, 3, 4]


def test_nobody_is_passed_for_long_for_having_no_deadline() -> None:
    hurried = [(1.0 + at * 0.1, 2.0) for at in range(50)]
    assert order_of([(0.0, math.inf), *hurried]).index(0) <= 30
