"""What travels with a call: deadline, criticality, tenant, trace, and the ledger of its time.

The interceptor makes one `CallFacts` per call from the metadata and puts it where `current()`
finds it; everything below the servicer (batcher, clients of other servers) reads it there.
"""

import asyncio
import math
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import dataclass, field
from enum import IntEnum

from fomofeed.type.v1 import type_pb2
from serving.errors import InvalidRequestError, Violation

CRITICALITY_KEY = "fomofeed-criticality"
TENANT_KEY = "fomofeed-tenant"
LEDGER_KEY = "fomofeed-ledger-bin"
TRACE_KEY = "traceparent"
MAX_TENANT_CHARS = 64


class Criticality(IntEnum):
    """How much a caller needs its answer; classes share a queue by weight, none starves."""

    SHEDDABLE = 0
    DEFAULT = 1
    CRITICAL = 2


@dataclass(slots=True)
class LedgerBuilder:
    """Collects where the time of one call went, in seconds; sent in the trailers."""

    queue_s: float = 0.0
    preprocess_s: float = 0.0
    compute_s: float = 0.0
    postprocess_s: float = 0.0
    batch_rows: int = 0
    cached: bool = False
    model: type_pb2.ModelRef | None = None

    @contextmanager
    def measure(self, part: str) -> Iterator[None]:
        """Adds the time of the block to `part`: "preprocess" or "postprocess"."""
        name = f"{part}_s"
        start = time.perf_counter()
        try:
            yield
        finally:
            setattr(self, name, getattr(self, name) + time.perf_counter() - start)

    def add_longest(self, parts: Sequence["LedgerBuilder"]) -> None:
        """Adds of parts of the call that ran side by side the one that took longest."""
        longest = max(parts, key=lambda part: part.queue_s + part.compute_s)
        self.queue_s += longest.queue_s
        self.compute_s += longest.compute_s
        self.batch_rows = max(part.batch_rows for part in parts)
        self.model = self.model or longest.model

    def to_proto(self, replica: str, start: float) -> type_pb2.Ledger:
        """Returns the message of the trailers, in whole microseconds.

        `start` is when the call began, by `time.perf_counter`. What no part has measured until now
        is other; nothing is when parts overlapped.
        """
        ledger = type_pb2.Ledger(
            queue_us=round(self.queue_s * 1e6),
            preprocess_us=round(self.preprocess_s * 1e6),
            compute_us=round(self.compute_s * 1e6),
            postprocess_us=round(self.postprocess_s * 1e6),
            batch_rows=self.batch_rows,
            cached=self.cached,
            replica=replica,
            model=self.model,
        )
        parts_s = self.queue_s + self.preprocess_s + self.compute_s + self.postprocess_s
        other_s = time.perf_counter() - start - parts_s
        ledger.other_us = max(0, round(other_s * 1e6))  # last: to make the message takes time, too
        return ledger


@dataclass(slots=True)
class CallFacts:
    """Facts of one call. `deadline` is a time of the event loop's clock, `math.inf` for none."""

    deadline: float = math.inf
    criticality: Criticality = Criticality.DEFAULT
    tenant: str = "default"
    traceparent: str = ""
    ledger: LedgerBuilder = field(default_factory=LedgerBuilder)

    def left_s(self) -> float:
        """Seconds until the deadline; negative when it has passed."""
        return self.deadline - asyncio.get_running_loop().time()

    def metadata(self) -> tuple[tuple[str, str], ...]:
        """What is passed on to the next server."""
        pairs = [(CRITICALITY_KEY, self.criticality.name.lower()), (TENANT_KEY, self.tenant)]
        if self.traceparent:
            pairs.append((TRACE_KEY, self.traceparent))
        return tuple(pairs)


_current: ContextVar[CallFacts] = ContextVar("call_facts")


def current() -> CallFacts:
    """Returns the facts of the running call; outside of calls fresh ones without a deadline."""
    try:
        return _current.get()
    except LookupError:
        return CallFacts()


def enter(facts: CallFacts) -> None:
    """Makes `facts` the current ones of the running task and of the tasks that it starts."""
    _current.set(facts)


def facts_from_metadata(
    metadata: Mapping[str, str | bytes], time_left_s: float | None, now: float
) -> CallFacts:
    """Reads the facts of a call; raises `InvalidRequestError` when a value is malformed."""
    deadline = math.inf if time_left_s is None else now + time_left_s
    if not metadata:
        return CallFacts(deadline)
    return CallFacts(
        deadline,
        _criticality(metadata.get(CRITICALITY_KEY)),
        _tenant(metadata.get(TENANT_KEY)),
        str(metadata.get(TRACE_KEY, "")),
    )


def _criticality(value: str | bytes | None) -> Criticality:
    if value is None:
        return Criticality.DEFAULT
    try:
        return Criticality[str(value).upper()]
    except KeyError:
        known = "one of critical, default, sheddable"
        raise InvalidRequestError(Violation(CRITICALITY_KEY, repr(value), known)) from None


def _tenant(value: str | bytes | None) -> str:
    if value is None:
        return "default"
    tenant = str(value)
    if not tenant or len(tenant) > MAX_TENANT_CHARS:
        limit = f"1 to {MAX_TENANT_CHARS} characters"
        raise InvalidRequestError(Violation(TENANT_KEY, f"{len(tenant)} characters", limit))
    return tenant
