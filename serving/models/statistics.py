"""Counters of one loaded model: requests, where their time went, and engine calls by size.

Written on the event loop only; read as they are. They start at 0 with each load.
"""

import time
from dataclasses import dataclass, field

from serving.request import LedgerBuilder


@dataclass(slots=True)
class Tally:
    """A number of events and the seconds that they took together."""

    count: int = 0
    seconds: float = 0.0

    def add(self, seconds: float) -> None:
        self.count += 1
        self.seconds += seconds


@dataclass(slots=True)
class RequestStatistics:
    """Requests to one model. The parts are those of the requests that succeeded."""

    success: Tally = field(default_factory=Tally)
    failure: Tally = field(default_factory=Tally)  # cancelled ones too
    queue: Tally = field(default_factory=Tally)
    preprocess: Tally = field(default_factory=Tally)
    compute: Tally = field(default_factory=Tally)  # of the whole engine calls it was part of
    postprocess: Tally = field(default_factory=Tally)
    rows: int = 0
    last_ms: int = 0  # when the last request was answered, since 1970

    def succeeded(self, rows: int, seconds: float, ledger: LedgerBuilder) -> None:
        """Counts a request of `rows` rows that was answered after `seconds`."""
        self.success.add(seconds)
        self.queue.add(ledger.queue_s)
        self.preprocess.add(ledger.preprocess_s)
        self.compute.add(ledger.compute_s)
        self.postprocess.add(ledger.postprocess_s)
        self.rows += rows
        self.last_ms = time.time_ns() // 1_000_000  # a date, told to people


@dataclass(slots=True)
class EngineStatistics:
    """Engine calls of one model, by their number of rows."""

    by_rows: dict[int, Tally] = field(default_factory=dict)

    @property
    def call_count(self) -> int:
        return sum(tally.count for tally in self.by_rows.values())

    def ran(self, rows: int, seconds: float) -> None:
        """Counts one engine call."""
        self.by_rows.setdefault(rows, Tally()).add(seconds)
