"""The bounded queue before an engine: pure data, no clock, no event loop.

Entries wait in lanes, one per shape bucket and criticality class. Within a lane the earliest due
time goes first (EDF). Classes share by weight with stride scheduling: each pick charges its class
work / weight and the class with the smallest pass is next, so none starves; a class that was
empty starts at the current pass and cannot save up. A lane is a sorted list: at a few hundred
entries an insertion is a move of pointers, and removing a cancelled caller is as cheap.

Rows are what the queue's bound counts; work is what an engine's time grows with. It is the rows,
but where these differ: of a ragged model it is the elements.
"""

import math
from bisect import bisect_left, insort
from collections.abc import Callable, Hashable, Iterator, Mapping
from dataclasses import dataclass, field
from operator import attrgetter
from typing import Any

from serving.request import Criticality

# At twice what a server can do, two fifths of it asked for by the critical, with deadlines of nine
# calls and Poisson arrivals, 98.3 % of the critical are answered if their weight is 6, 99.92 % if
# it is 16, 99.97 % if it is 32. Whatever comes, a 36th is left to the sheddable.
WEIGHTS: Mapping[Criticality, int] = {
    Criticality.CRITICAL: 32,
    Criticality.DEFAULT: 3,
    Criticality.SHEDDABLE: 1,
}

_ORDER = attrgetter("order")


@dataclass(slots=True, eq=False)
class Entry:
    """One request that waits: of `rows` and `work` >= 1, `cost` in the units of the batch's limit.

    `deadline` is a point of the scheduler's clock, `math.inf` for none. `order` sorts the lane: the
    deadline, or arrival plus a patience when that is earlier, so that nobody starves; then arrival.
    """

    item: Any
    rows: int = 1
    cost: float = 1.0
    bucket: Hashable = None
    deadline: float = math.inf
    criticality: Criticality = Criticality.DEFAULT
    arrival: float = 0.0
    order: tuple[float, int] = (math.inf, 0)
    work: int = 1


@dataclass(slots=True)
class _Lane:
    criticality: Criticality
    bucket: Hashable
    entries: list[Entry] = field(default_factory=list)
    work: int = 0


Lanes = dict[Criticality, _Lane]


def _ahead(entry: Entry, lane: _Lane) -> float:
    """Work of a lane that is due before an entry, estimated by its place in the lane."""
    if not lane.work:
        return 0.0
    return lane.work * bisect_left(lane.entries, entry.order, key=_ORDER) / len(lane.entries)


@dataclass(slots=True)
class RequestQueue:
    """Entries in order of execution. `rows` and `work` are what waits in total."""

    rows: int = 0
    work: int = 0
    bucket_work: dict[Hashable, int] = field(default_factory=dict)
    class_work: dict[Criticality, int] = field(
        default_factory=lambda: dict.fromkeys(Criticality, 0)
    )
    _buckets: dict[Hashable, Lanes] = field(default_factory=dict)
    _pass: dict[Criticality, float] = field(default_factory=lambda: dict.fromkeys(Criticality, 0.0))

    def __iter__(self) -> Iterator[Entry]:
        for lanes in self._buckets.values():
            for lane in lanes.values():
                yield from lane.entries

    def push(self, entry: Entry) -> None:
        """Adds an entry; whether there is room is the caller's question."""
        lanes = self._buckets.get(entry.bucket)
        if lanes is None:
            lanes = self._buckets[entry.bucket] = {c: _Lane(c, entry.bucket) for c in Criticality}
        if not self.class_work[entry.criticality]:
            self._wake(entry.criticality)
        lane = lanes[entry.criticality]
        insort(lane.entries, entry, key=_ORDER)
        self._count(lane, entry, 1)

    def remove(self, entry: Entry) -> bool:
        """Takes one entry out; False when it does not wait (any more)."""
        lane = self._buckets.get(entry.bucket, {}).get(entry.criticality)
        if lane is None:
            return False
        index = bisect_left(lane.entries, entry.order, key=_ORDER)
        if index == len(lane.entries) or lane.entries[index] is not entry:
            return False
        del lane.entries[index]
        self._count(lane, entry, -1)
        return True

    def rows_below(self, criticality: Criticality) -> int:
        """Rows of lower classes."""
        if not any(work for c, work in self.class_work.items() if c < criticality):
            return 0
        return sum(entry.rows for entry in self if entry.criticality < criticality)

    def work_ahead(self, entry: Entry) -> int:
        """Work of the entry's own class that would run before it, estimated by its position."""
        return round(sum(_ahead(entry, by[entry.criticality]) for by in self._buckets.values()))

    def work_passed(self, entry: Entry) -> float:
        """Work of other buckets that an entry passes which joins the batch being taken.

        Those of a higher class, and of its own those that are due earlier, estimated by its place.
        """
        if len(self.bucket_work) == 1:
            return 0.0
        passed = 0.0
        for bucket, lanes in self._buckets.items():
            if bucket != entry.bucket and bucket in self.bucket_work:
                passed += _ahead(entry, lanes[entry.criticality])
                passed += sum(lanes[c].work for c in Criticality if c > entry.criticality)
        return passed

    def take(self, fits: Callable[[Entry], bool | None]) -> list[Entry]:
        """Removes and returns the next batch: entries of one bucket, in order of execution.

        `fits` is asked for each next entry: True takes it, None removes it without taking (it is
        the caller's then), False leaves it and closes its lane for this batch.
        """
        batch: list[Entry] = []
        lanes = [lane for by_class in self._buckets.values() for lane in by_class.values()]
        lanes = [lane for lane in lanes if lane.work]
        while lanes:
            lane = lanes[0] if len(lanes) == 1 else self._next(lanes)
            answer = fits(lane.entries[0])
            if answer is False:
                lanes.remove(lane)
                continue
            head = lane.entries.pop(0)
            self._count(lane, head, -1)
            if answer:
                self._pass[lane.criticality] += head.work / WEIGHTS[lane.criticality]
                if not batch:
                    lanes = [other for other in lanes if other.bucket == lane.bucket]
                batch.append(head)
            if not lane.work:
                lanes.remove(lane)
        return batch

    def evict(self, below: Criticality, rows: int) -> list[Entry]:
        """Removes up to `rows` rows of lower classes, the least urgent first, to make room."""
        victims = [e for e in self if e.criticality < below]
        victims.sort(key=lambda e: (e.criticality, -e.order[0], -e.order[1]))
        evicted: list[Entry] = []
        while victims and sum(e.rows for e in evicted) < rows:
            evicted.append(victims.pop(0))
            self.remove(evicted[-1])
        return evicted

    def expire(self, now: float) -> list[Entry]:
        """Removes and returns what has passed its deadline."""
        expired = [entry for entry in self if entry.deadline <= now]
        for entry in expired:
            self.remove(entry)
        return expired

    def next_deadline(self) -> float:
        """The earliest deadline that waits; `math.inf` when there is none."""
        return min((entry.deadline for entry in self), default=math.inf)

    def _next(self, lanes: list[_Lane]) -> _Lane:
        """The lane whose turn it is: of the class with the smallest pass, its earliest head."""
        return min(
            lanes,
            key=lambda lane: (
                self._pass[lane.criticality],
                -lane.criticality,
                lane.entries[0].order,
            ),
        )

    def _wake(self, criticality: Criticality) -> None:
        active = [self._pass[c] for c, work in self.class_work.items() if work]
        floor = min(active) if active else max(self._pass.values())
        self._pass[criticality] = max(self._pass[criticality], floor)

    def _count(self, lane: _Lane, entry: Entry, sign: int) -> None:
        work = sign * entry.work
        lane.work += work
        self.work += work
        self.rows += sign * entry.rows
        self.class_work[entry.criticality] += work
        self.bucket_work[entry.bucket] = self.bucket_work.get(entry.bucket, 0) + work
        if not self.bucket_work[entry.bucket]:
            del self.bucket_work[entry.bucket]
            if len(self._buckets) > 1:  # the only one is soon used again
                del self._buckets[entry.bucket]
