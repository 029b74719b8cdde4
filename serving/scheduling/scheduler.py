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
    start: float
    expected_end: float
    end: float | None = None

    @classmethod
    def of(cls, entries: list[Entry], now: float) -> "Batch":
        """Entries that run again, since now, as a part of their batch."""
        return cls(entries, sum(entry.rows for entry in entries), now, now)

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
    max_rows: int = 0  # the limit in force: the configured one, or less after out-of-memory
    _running: list[Batch] = field(default_factory=list)
    _sequence: int = 0

    def __post_init__(self) -> None:
        self.max_rows = self.config.max_batch_rows

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
    ) -> Entry:
        """Makes an entry that arrives now."""
        self._sequence += 1
        order = (now + _patience(deadline - now), self._sequence)
        return Entry(item, rows, cost, bucket, deadline, criticality, now, order)

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
        seconds = self.service_time.predict(entries[0].bucket, cut.rows)
        batch = Batch(entries, cut.rows, now, now + seconds)
        self._running.append(batch)
        return batch, dropped

    def finish(self, batch: Batch, now: float, *, learn: bool = True) -> None:
        """Frees the instance of a batch and learns from its time."""
        self._running.remove(batch)
        batch.end = now
        if learn:
            bucket = batch.entries[0].bucket
            self.service_time.observe(bucket, batch.rows, now - batch.start, now)

    def shrink(self, rows: int) -> bool:
        """Remembers that `rows` rows were too many for the device; False at the limit of 1."""
        before = self.max_rows
        self.max_rows = max(1, min(before, rows // 2))
        return self.max_rows < before

    def is_too_late(self, entry: Entry, now: float) -> bool:
        """Whether executing the entry now would be work for nobody."""
        if entry.deadline <= now:
            return True
        line = self.service_time.line(entry.bucket)
        if line is None or now + line.predict(entry.rows) <= entry.deadline:
            return False
        return line.is_fresh(now, self._turns())

    def rows_limit(self, bucket: Hashable) -> int:
        """Rows of the largest batch of a bucket that is worth its time."""
        line = self.service_time.line(bucket)
        return self.max_rows if line is None else int(min(self.max_rows, line.curve.best_rows()))

    def _turns(self) -> int:
        """Buckets that take turns: each is observed that much more rarely."""
        return max(1, len(self.queue.bucket_rows))

    def _check_deadline(self, entry: Entry, now: float) -> None:
        """Raises what refuses an entry that cannot end in time; an old prediction refuses none."""
        if entry.deadline <= now:
            raise DeadlineError.expired()
        line = self.service_time.line(entry.bucket)
        if line is None or not line.is_fresh(now, self._turns()):
            return
        own = line.predict(entry.rows)
        if now + own > entry.deadline:
            raise DeadlineError.infeasible(own, entry.deadline - now)
        if not self.queue.rows and self.has_idle_instance:
            return
        if self._expected_end(entry, line, self.queue.rows, now) <= entry.deadline:
            return  # even behind everybody: its place in the queue need not be found
        late_s = self._expected_end(entry, line, self._rows_before(entry), now) - entry.deadline
        if late_s > 0:
            limit = f"would end {late_s * 1000:.0f} ms after the deadline"
            raise QueueFullError("queue", limit, max(late_s, _MIN_RETRY_S))

    def _make_room(self, entry: Entry, now: float) -> list[Entry]:
        excess = self.queue.rows + entry.rows - self.config.max_queue_rows
        if excess <= 0:
            return []
        lower = sum(rows for c, rows in self.queue.class_rows.items() if c < entry.criticality)
        if lower < excess:
            wait = self._drain_s(self.queue.rows) + self._residual_s(now)
            limit = f"{self.config.max_queue_rows} rows"
            raise QueueFullError("queue", limit, max(wait, _MIN_RETRY_S))
        return self.queue.evict(entry.criticality, excess)

    def _expected_end(self, entry: Entry, line: Line, rows_before: float, now: float) -> float:
        """When the entry would be answered if it were queued now behind so many rows.

        The nearer the queue is to a full batch, the more time to spare is asked for: who is
        admitted with none can take no mates along when it opens a batch, and under overload
        batches would shrink to one row. Its own time is that of a batch of all who wait, whatever
        their bucket, for the same reason.
        """
        limit = self.rows_limit(entry.bucket)
        fullness = min(1.0, self.queue.rows / limit)
        size = max(entry.rows, min(limit, self.queue.rows + entry.rows))
        own = line.predict(size)
        in_its_batch = max(0, size - entry.rows) * (1 - fullness)
        wait = self._drain_s(max(0.0, rows_before - in_its_batch)) + self._residual_s(now)
        margin = 1 + _MARGIN_DEVIATIONS * line.deviation
        return now + (wait + own) * margin + own * fullness

    def _rows_before(self, entry: Entry) -> float:
        """Rows that run first: those ahead in its class, and the other classes' share meanwhile."""
        ahead = self.queue.rows_ahead(entry)
        weight = WEIGHTS[entry.criticality]
        rows = float(ahead)
        for criticality, waiting in self.queue.class_rows.items():
            if criticality is not entry.criticality and waiting:
                share = (ahead + entry.rows) * WEIGHTS[criticality] / weight
                rows += min(waiting, share)
        return rows

    def _drain_s(self, rows: float) -> float:
        """Seconds to execute `rows` waiting rows in full batches on all instances."""
        if not rows:
            return 0.0
        waiting_s = 0.0  # of all that waits, one full batch after the other
        for bucket, waiting in self.queue.bucket_rows.items():
            limit = self.rows_limit(bucket)
            waiting_s += waiting / limit * self.service_time.predict(bucket, limit)
        return waiting_s * rows / self.queue.rows / self.instances

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
        self.rows = 0
        self._limit = 0
        self._scheduler, self._now, self._dropped = scheduler, now, dropped
        self._cost = 0.0
        self._earliest = math.inf

    def fits(self, entry: Entry) -> bool | None:
        """True: take it. None: drop it, it is too late. False: not in this batch."""
        scheduler = self._scheduler
        if scheduler.is_too_late(entry, self._now):
            self._dropped.append(entry)
            return None
        rows, cost = self.rows + entry.rows, self._cost + entry.cost
        earliest = min(self._earliest, entry.deadline)
        if self.rows:
            if rows > self._limit or cost > scheduler.config.max_batch_cost:
                return False
            seconds = scheduler.service_time.predict(entry.bucket, rows)
            if self._now + seconds > earliest or not self._is_worth_it(entry):
                return False
        else:
            self._limit = scheduler.rows_limit(entry.bucket)
        self.rows, self._cost, self._earliest = rows, cost, earliest
        return True

    def _is_worth_it(self, mate: Entry) -> bool:
        """Whether a mate saves more waiting than it costs those of other buckets whom it passes.

        They wait for its rows; it and all behind it are spared the call that it would need later.
        So where a call costs no less than a row everybody may pass, and where it costs nothing
        nobody may: batches would save nothing, and keep who has a rare shape waiting. While
        batches of one size only are known, the two costs are found out.
        """
        scheduler = self._scheduler
        line = scheduler.service_time.line(mate.bucket)
        if line is None or not line.tells_rows or line.a >= line.b * mate.rows:
            return True
        passed = scheduler.queue.rows_passed(mate)
        spared = scheduler.queue.rows - passed
        return line.a * spared >= line.b * mate.rows * passed
