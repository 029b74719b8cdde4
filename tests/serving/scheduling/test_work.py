"""Where time is not by rows but by what is in them: a word or a long text is one row."""

import pytest

from serving.errors import DeadlineError, QueueFullError
from serving.request import Criticality
from serving.scheduling.queue import Entry
from serving.scheduling.scheduler import BatchingConfig, Scheduler

CALL_S, ELEMENT_S = 0.002, 0.001


def scheduler(**limits: int) -> Scheduler:
    """One that knows its engine: 2 ms a call and 1 ms an element."""
    made = Scheduler(BatchingConfig(**limits))
    for work in (1, 10, 100) * 5:
        made.service_time.observe(None, work, CALL_S + ELEMENT_S * work, 0.0)
    return made


def admit(to: Scheduler, work: int, deadline: float = 10.0, **facts: Criticality) -> Entry:
    entry = to.entry(work, 0.0, deadline=deadline, work=work, **facts)
    assert to.admit(entry, 0.0) == []
    return entry


def batches(of: Scheduler) -> list[list[int]]:
    taken = (of.take(0.0)[0] for _ in range(100))
    return [[entry.work for entry in batch.entries] for batch in taken if batch]


def test_a_long_text_that_cannot_end_in_time_is_refused_and_a_short_one_is_not() -> None:
    ours = scheduler()
    with pytest.raises(DeadlineError):
        admit(ours, 100, deadline=0.05)
    admit(ours, 10, deadline=0.05)


def test_as_many_are_admitted_as_their_lengths_leave_time_for() -> None:
    ours = scheduler(max_batch_rows=4)
    with pytest.raises(QueueFullError):
        for _ in range(10):
            admit(ours, 100, deadline=0.9)
    assert 300 <= ours.queue.work < 900
    others = scheduler(max_batch_rows=4)
    for _ in range(10):
        admit(others, 10, deadline=0.9)


def test_a_batch_is_as_long_as_its_earliest_deadline_allows() -> None:
    ours = scheduler()
    for work in (10, 30, 50):
        admit(ours, work, deadline=0.08 if work == 10 else 10.0)
    assert batches(ours) == [[10, 30], [50]]


def test_all_run_in_the_order_in_which_they_came() -> None:
    ours = scheduler(max_batch_rows=3)
    for work in (7, 100, 1, 50, 7):
        admit(ours, work)
    assert batches(ours) == [[7, 100, 1], [50, 7]]


def test_beyond_the_best_size_batches_are_not_made() -> None:
    ours = scheduler()
    for work in (16, 32, 64, 128) * 20:
        seconds = work * (ELEMENT_S if work <= 64 else 2 * ELEMENT_S)
        ours.service_time.observe(None, work, seconds, 0.0)
    for _ in range(9):
        admit(ours, 20)
    assert batches(ours) == [[20] * 3] * 3


def test_the_queue_is_bounded_by_rows() -> None:
    ours = scheduler(max_queue_rows=3)
    for work in (1000, 1, 10):
        admit(ours, work)
    with pytest.raises(QueueFullError):
        admit(ours, 1)
    assert (ours.queue.rows, ours.queue.work) == (3, 1011)


def test_classes_share_time_and_not_rows() -> None:
    ours = scheduler(max_batch_rows=1)
    for _ in range(40):
        admit(ours, 10)
        admit(ours, 1, criticality=Criticality.SHEDDABLE)
    first = [work for batch in batches(ours)[:40] for work in batch]
    spent = sum(work for work in first if work == 10) / sum(work for work in first if work == 1)
    assert 2.5 < spent < 4  # weights 3 and 1
