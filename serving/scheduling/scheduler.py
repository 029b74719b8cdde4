"""The scheduling core: who is admitted, who runs next. Pure: time is an argument.

`Batcher` puts it on an event loop; tests drive it with lists of events. Its promises: the queue is
bounded; what cannot end before its deadline is refused at once, or dropped unexecuted; a batch
never exceeds the limits, holds one bucket, and is no larger than the earliest deadline in it
allows; an idle instance never waits.
"""

import math
from collections.abc import Hashable
from dataclasses import dataclass, field
from typing import Any

from serving.errors import DeadlineError, QueueFullError
from serving.request import Criticality
from serving.scheduling.queue import WEIGHTS, Entry, RequestQueue
from serving.scheduling.service_time import Line, ServiceTime

PATIENCE_S = 30.0  # taken for the time that is left to a request without a deadline
_EXACT_S = 1.0  # of the time left counts in full, what is beyond it by its logarithm
_MIN_RETRY_S = 0.001
_MAX_FITTING = 1024  # buckets; callers choose shapes
_MARGIN_DEVIATIONS = 2.0  # safety in an admission, in mean deviations of the prediction


@dataclass(frozen=True, slots=True)
class BatchingConfig:
    """Limits of a batch and of the queue before it."""

    max_batch_rows: int = 32  # rows in one engine call, >= 1
    max_batch_cost: float = math.inf  # sum of the entries' costs in one call, > 0
    max_queue_rows: int = 512  # rows that may wait, >= 1

    def __post_init__(self) -> None:
        if self.max_batch_rows < 1 or self.max_queue_rows < 1 or self.max_batch_cost <= 0:
            raise ValueError("max_batch_rows, max_queue_rows are >= 1, max_batch_cost > 0")


@dataclass(slots=True, eq=False)
class Batch:
    """Entries that run together on one instance, from `start` to `end`, None while they run."""

    entries: list[Entry]
    rows: int
    work: int
    start: float
    expected_end: float
    end: float | None = None

    @classmethod
    def of(cls, entries: list[Entry], now: float) -> "Batch":
        """Entries that run again, since now, as a part of their batch."""
        rows, work = sum(entry.rows for entry in entries), sum(entry.work for entry in entries)
        return cls(entries, rows, work, now, now)

    def seconds(self, now: float) -> float:
        """How long it ran, or has run so far."""
        return (now if self.end is None else self.end) - self.start


@dataclass(slots=True)
class Scheduler:
    """Admits, orders and cuts batches for a number of equal instances."""

    config: BatchingConfig
    instances: int = 1
    queue: RequestQueue = field(default_factory=RequestQueue)
    service_time: ServiceTime = field(default_factory=ServiceTime)
    _running: list[Batch] = field(default_factory=list)
    _sequence: int = 0
    _fitting: dict[Hashable, int] = field(default_factory=dict)  # work, by out-of-memory

    @property
    def has_idle_instance(self) -> bool:
        return len(self._running) < self.instances

    def entry(
        self,
        item: Any,
        now: float,
        *,
        rows: int = 1,
        cost: float = 1.0,
        bucket: Hashable = None,
        deadline: float = math.inf,
        criticality: Criticality = Criticality.DEFAULT,
        work: int = 0,
    ) -> Entry:
        """Makes an entry that arrives now; of no `work` of its own, it is that of its rows."""
        self._sequence += 1
        order = (now + _patience(deadline - now), self._sequence)
        return Entry(item, rows, cost, bucket, deadline, criticality, now, order, work or rows)

    def admit(self, entry: Entry, now: float) -> list[Entry]:
        """Queues an entry, or raises why not; returns lower-class entries that had to make room.

        Raises `DeadlineError` when not even an idle server could answer in time, `QueueFullError`
        when the queue is full or what already waits would make it late.
        """
        if entry.deadline < math.inf:
            self._check_deadline(entry, now)
        evicted = self._make_room(entry, now)
        self.queue.push(entry)
        return evicted

    def take(self, now: float) -> tuple[Batch | None, list[Entry]]:
        """Cuts the next batch for an idle instance; also returns what was dropped as too late."""
        dropped: list[Entry] = []
        cut = _Cut(self, now, dropped)
        entries = self.queue.take(cut.fits)
        if not entries:
            return None, dropped
        seconds = self.service_time.predict(entries[0].bucket, cut.work)
        batch = Batch(entries, cut.rows, cut.work, now, now + seconds)
        self._running.append(batch)
        return batch, dropped

    def finish(self, batch: Batch, now: float, *, learn: bool = True) -> None:
        """Frees the instance of a batch and learns from its time."""
        self._running.remove(batch)
        batch.end = now
        if learn:
            bucket = batch.entries[0].bucket
            self.service_time.observe(bucket, batch.work, now - batch.start, now)

    def fitting_work(self, bucket: Hashable) -> float:
        """Work of a batch that the device has memory for, as far as is known."""
        return self._fitting.get(bucket, math.inf)

    def shrink(self, bucket: Hashable, work: int) -> int:
        """Remembers that so much was too much for the device; returns half of it, 0 if known."""
        before = self.fitting_work(bucket)
        fitting = max(1, work // 2)
        if fitting >= before:
            return 0
        if bucket not in self._fitting and len(self._fitting) >= _MAX_FITTING:
            del self._fitting[next(iter(self._fitting))]  # the one known for the longest time
        self._fitting[bucket] = fitting
        return fitting

    def is_too_late(self, entry: Entry, now: float) -> bool:
        """Whether executing the entry now would be work for nobody."""
        if entry.deadline <= now:
            return True
        line = self.service_time.line(entry.bucket)
        if line is None or now + line.predict(entry.work) <= entry.deadline:
            return False
        return line.is_fresh(now, self._turns())

    def best_work(self, bucket: Hashable) -> float:
        """Work of the largest batch of a bucket that fits and is worth its time."""
        line = self.service_time.line(bucket)
        best = math.inf if line is None else line.curve.best_work()
        return min(best, self.fitting_work(bucket))

    def _full_work(self, bucket: Hashable, row_work: float) -> float:
        """Work of a full batch of a bucket, by the work of a row."""
        return min(self.config.max_batch_rows * row_work, self.best_work(bucket))

    def _turns(self) -> int:
        """Buckets that take turns: each is observed that much more rarely."""
        return max(1, len(self.queue.bucket_work))

    def _check_deadline(self, entry: Entry, now: float) -> None:
        """Raises what refuses an entry that cannot end in time; an old prediction refuses none."""
        if entry.deadline <= now:
            raise DeadlineError.expired()
        line = self.service_time.line(entry.bucket)
        if line is None or not line.is_fresh(now, self._turns()):
            return
        own = line.predict(entry.work)
        if now + own > entry.deadline:
            raise DeadlineError.infeasible(own, entry.deadline - now)
        if not self.queue.rows and self.has_idle_instance:
            return
        if self._expected_end(entry, line, self.queue.work, now) <= entry.deadline:
            return  # even behind everybody: its place in the queue need not be found
        late_s = self._expected_end(entry, line, self._work_before(entry), now) - entry.deadline
        if late_s > 0:
            limit = f"would end {late_s * 1000:.0f} ms after the deadline"
            raise QueueFullError("queue", limit, max(late_s, _MIN_RETRY_S))

    def _make_room(self, entry: Entry, now: float) -> list[Entry]:
        excess = self.queue.rows + entry.rows - self.config.max_queue_rows
        if excess <= 0:
            return []
        if self.queue.rows_below(entry.criticality) < excess:
            wait = self._drain_s(self.queue.work) + self._residual_s(now)
            limit = f"{self.config.max_queue_rows} rows"
            raise QueueFullError("queue", limit, max(wait, _MIN_RETRY_S))
        return self.queue.evict(entry.criticality, excess)

    def _expected_end(self, entry: Entry, line: Line, work_before: float, now: float) -> float:
        """When the entry would be answered if it were queued now behind so much work.

        The nearer the queue is to a full batch, the more time to spare is asked for: who is
        admitted with none can take no mates along when it opens a batch, and under overload
        batches would shrink to one row. Its own time is that of a batch of all who wait, whatever
        their bucket, for the same reason.
        """
        queue = self.queue
        row_work = (queue.work + entry.work) / (queue.rows + entry.rows)
        limit = self._full_work(entry.bucket, row_work)
        fullness = min(1.0, queue.work / limit)
        size = max(entry.work, min(limit, queue.work + entry.work))
        own = line.predict(size)
        in_its_batch = max(0, size - entry.work) * (1 - fullness)
        wait = self._drain_s(max(0.0, work_before - in_its_batch)) + self._residual_s(now)
        margin = 1 + _MARGIN_DEVIATIONS * line.deviation
        return now + (wait + own) * margin + own * fullness

    def _work_before(self, entry: Entry) -> float:
        """Work that runs first: that ahead in its class, and the other classes' share meanwhile."""
        ahead = self.queue.work_ahead(entry)
        weight = WEIGHTS[entry.criticality]
        work = float(ahead)
        for criticality, waiting in self.queue.class_work.items():
            if criticality is not entry.criticality and waiting:
                share = (ahead + entry.work) * WEIGHTS[criticality] / weight
                work += min(waiting, share)
        return work

    def _drain_s(self, work: float) -> float:
        """Seconds to execute `work` of what waits in full batches on all instances."""
        if not work:
            return 0.0
        queue, waiting_s = self.queue, 0.0  # of all that waits, one full batch after the other
        for bucket, waiting in queue.bucket_work.items():
            limit = self._full_work(bucket, queue.work / queue.rows)
            waiting_s += waiting / limit * self.service_time.predict(bucket, limit)
        return waiting_s * work / queue.work / self.instances

    def _residual_s(self, now: float) -> float:
        """Seconds until an instance is free, as expected."""
        if self.has_idle_instance:
            return 0.0
        return max(0.0, min(batch.expected_end for batch in self._running) - now)


def _patience(left_s: float) -> float:
    """Seconds after its arrival that an entry is due to be executed, by the time left to it.

    Of a deadline far away the far end counts for less than who came first. gRPC sends it with two
    or three digits: of callers who all give 10 s some come with 10.1, so that by deadlines alone
    one in twenty passed all others. Nor is anybody passed for 30 s for not being in a hurry.
    """
    if left_s <= _EXACT_S:
        return left_s
    return _EXACT_S * (1 + math.log(min(left_s, PATIENCE_S) / _EXACT_S))


class _Cut:
    """Decides, entry by entry, what goes into one batch."""

    def __init__(self, scheduler: Scheduler, now: float, dropped: list[Entry]) -> None:
        self.rows = self.work = 0
        self._best_work = math.inf
        self._scheduler, self._now, self._dropped = scheduler, now, dropped
        self._cost = 0.0
        self._earliest = math.inf

    def fits(self, entry: Entry) -> bool | None:
        """True: take it. None: drop it, it is too late. False: not in this batch."""
        scheduler = self._scheduler
        if scheduler.is_too_late(entry, self._now):
            self._dropped.append(entry)
            return None
        rows, work = self.rows + entry.rows, self.work + entry.work
        cost = self._cost + entry.cost
        earliest = min(self._earliest, entry.deadline)
        if self.rows:
            if rows > scheduler.config.max_batch_rows or cost > scheduler.config.max_batch_cost:
                return False
            seconds = scheduler.service_time.predict(entry.bucket, work)
            is_late = self._now + seconds > earliest
            if is_late or work > self._best_work or not self._is_worth_it(entry):
                return False
        else:
            self._best_work = scheduler.best_work(entry.bucket)
        self.rows, self.work, self._cost, self._earliest = rows, work, cost, earliest
        return True

    def _is_worth_it(self, mate: Entry) -> bool:
        """Whether a mate saves more waiting than it costs those of other buckets whom it passes.

        They wait for its work; it and all behind it are spared the call that it would need later.
        So where a call costs no less than the work everybody may pass, and where it costs nothing
        nobody may: batches would save nothing, and keep who has a rare shape waiting. While
        batches of one size only are known, the two costs are found out.
        """
        scheduler = self._scheduler
        line = scheduler.service_time.line(mate.bucket)
        if line is None or not line.tells_work or line.a >= line.b * mate.work:
            return True
        passed = scheduler.queue.work_passed(mate)
        spared = scheduler.queue.work - passed
        return line.a * spared >= line.b * mate.work * passed
