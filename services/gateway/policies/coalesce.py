"""Coalescing: calls of one node that a busy gateway would make one by one travel together.

While the event loop has nothing else to do, a call goes at once, by the node's own method. While
it is busy, calls wait for company until the next lull, at most as long as a call of the node
usually takes, nor longer than a tenth of what a caller has left: a call over the wire costs the
gateway as much as the whole rest of a node, whoever travels in it. One request alone waits never.

The queue is the scheduler of the servers, with a few calls in the air as its instances: a node that
cannot keep up is asked in batches, and a caller who could not be answered in time is refused. A
call that is slower than usual holds up nobody: the next may go, perhaps to another replica. A batch
holds callers of one tenant and class, whose deadlines are at most a factor of two apart, since a
batch is as long as its last. Each leaves alone; the last one cancels the wire.
"""

import asyncio
import math
from dataclasses import dataclass, field
from types import TracebackType

from google.protobuf.message import Message

from services.gateway.metrics import BATCH_ROWS, BATCH_WAIT
from services.gateway.outcome import SKIPPED, Outcome, failed
from services.gateway.policies.latency import LatencyWindow
from services.gateway.policies.lull import Lulls
from services.gateway.policies.together import CallTogether
from serving.errors import DeadlineError, NotReadyError, QueueFullError, ServingError
from serving.request import CallFacts, current, enter
from serving.scheduling.queue import Entry
from serving.scheduling.scheduler import Batch, BatchingConfig, Scheduler
from serving.scheduling.service_time import ServiceTime

MAX_ROWS = 32  # requests of one batch: the least that a server of this house takes
MAX_FLIGHTS = 8  # calls in the air that take no longer than usual; then others wait
WAIT_SHARE = 0.1  # of the time that a caller has left: so much may he wait for company
MAX_BYTES = 24 * 1024 * 1024  # of one batch; a message may have 32 MiB


@dataclass(slots=True, eq=False)
class _Passenger:
    """One request, how its caller hears of it, and the call that it travels in, once it does."""

    request: Message
    deadline: float
    facts: CallFacts
    outcome: asyncio.Future[Outcome]
    flight: "_Flight | None" = None


@dataclass(slots=True, eq=False)
class _Flight:
    """One call over the wire, for as many as wait for it. `batch`: while it bars the next."""

    passengers: list[_Passenger]
    callers: int
    batch: Batch | None
    task: asyncio.Task[None] = field(init=False)

    def leave(self) -> None:
        self.callers -= 1
        if not self.callers:
            self.task.cancel()


class Coalesced:
    """Calls one node by `together`; an async context manager."""

    def __init__(
        self,
        name: str,
        together: CallTogether,
        expected_s: float,
        is_optional: bool,
        lulls: Lulls,
    ) -> None:
        self._together = together
        self._expected_s = expected_s
        self._is_optional = is_optional
        self._latency = LatencyWindow(expected_s)  # of flights, whoever is in them
        limits = BatchingConfig(MAX_ROWS, max_batch_cost=MAX_BYTES)
        # A call takes what it takes, whoever travels in it, until batches have shown otherwise.
        times = ServiceTime(work_share=0.0)
        self._scheduler = Scheduler(limits, instances=MAX_FLIGHTS, service_time=times)
        self._flights: set[_Flight] = set()
        self._lulls = lulls
        self._is_leaving = False  # the next call leaves later in this turn, or in a lull
        self._patience_ends = math.inf  # of the first of those who wait to lose it
        self._is_closed = False
        self._rows, self._wait = BATCH_ROWS.labels(name), BATCH_WAIT.labels(name)

    async def __aenter__(self) -> "Coalesced":
        self._loop = asyncio.get_running_loop()
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._is_closed = True
        queue = self._scheduler.queue
        for entry in list(queue):
            queue.remove(entry)
            self._refuse(entry, NotReadyError("draining"))
        if self._flights:
            await asyncio.wait([flight.task for flight in self._flights])

    async def __call__(self, request: Message, deadline: float) -> Outcome:
        """Makes one attempt, alone or in company."""
        facts, now = current(), self._loop.time()
        passenger = _Passenger(request, deadline, facts, self._loop.create_future())
        entry = self._scheduler.entry(
            passenger,
            now,
            cost=request.ByteSize(),
            bucket=(facts.tenant, facts.criticality, math.frexp(max(deadline - now, 1e-3))[1]),
            deadline=deadline,
            criticality=facts.criticality,
        )
        try:
            self._admit(entry, now)
        except ServingError as error:
            return self._refusal(error)
        self._lulls.arrive()
        try:
            return await passenger.outcome
        except asyncio.CancelledError:
            if passenger.flight is not None:
                passenger.flight.leave()
            else:
                self._scheduler.queue.remove(entry)
            raise
        finally:
            self._lulls.leave()

    def _admit(self, entry: Entry, now: float) -> None:
        if self._is_closed:
            raise NotReadyError("draining")
        for victim in self._scheduler.admit(entry, now):
            self._refuse(victim, QueueFullError("queue", "displaced by a higher class", 0.1))
        self._patience_ends = min(self._patience_ends, now + WAIT_SHARE * (entry.deadline - now))
        if not self._is_leaving:
            self._is_leaving = True
            self._loop.call_soon(self._depart)  # with what else arrives in this turn

    def _refuse(self, entry: Entry, error: ServingError) -> None:
        outcome: asyncio.Future[Outcome] = entry.item.outcome
        if not outcome.done():
            outcome.set_result(self._refusal(error))

    def _refusal(self, error: ServingError) -> Outcome:
        reason = SKIPPED if self._is_optional and isinstance(error, QueueFullError) else ""
        return failed(
            error.code, str(error), reason=reason, retry_after_s=error.retry_after_s, attempts=0
        )

    def _depart(self) -> None:
        """Starts calls with those who wait; the next ones leave in a lull."""
        self._is_leaving = False
        while self._scheduler.has_idle_instance and self._scheduler.queue.rows:
            now = self._loop.time()
            batch, dropped = self._scheduler.take(now)
            for entry in dropped:
                self._refuse(entry, DeadlineError.expired())
            if batch is None:
                break
            self._wait.observe(now - min(entry.arrival for entry in batch.entries))
            self._start(batch)
            self._is_leaving = True
        if not self._scheduler.queue.rows:
            self._patience_ends = math.inf
        if self._is_leaving:
            usual_end = self._loop.time() + self._usual_s()
            self._lulls.call(self._depart, lambda: min(usual_end, self._patience_ends))

    def _usual_s(self) -> float:
        return max(self._expected_s, self._latency.quantile_s(0.95))

    def _start(self, batch: Batch) -> None:
        passengers = [entry.item for entry in batch.entries]
        flight = _Flight(passengers, len(passengers), batch)
        for passenger in passengers:
            passenger.flight = flight
        self._rows.observe(len(passengers))
        self._flights.add(flight)
        flight.task = self._loop.create_task(self._fly(flight))
        timer = self._loop.call_later(self._usual_s(), self._clear, flight)
        flight.task.add_done_callback(lambda _: self._land(flight, timer))

    def _land(self, flight: _Flight, timer: asyncio.TimerHandle) -> None:
        timer.cancel()
        self._flights.discard(flight)
        self._clear(flight)
        error = None if flight.task.cancelled() else flight.task.exception()
        for passenger in flight.passengers:
            if error is not None and not passenger.outcome.done():
                passenger.outcome.set_exception(error)
        flight.passengers.clear()  # they know their flight: without a circle they go at once

    def _clear(self, flight: _Flight) -> None:
        """Makes room for another call: this one has ended, or has taken what is usual."""
        batch, flight.batch = flight.batch, None
        if batch is not None:
            self._scheduler.finish(batch, self._loop.time())
            if not self._is_leaving and self._scheduler.queue.rows:
                self._depart()

    async def _fly(self, flight: _Flight) -> None:
        enter(flight.passengers[0].facts)
        start = self._loop.time()
        outcomes = await self._together([(one.request, one.deadline) for one in flight.passengers])
        if any(outcome.answer is not None for outcome in outcomes):
            self._latency.add(self._loop.time() - start)
        for passenger, outcome in zip(flight.passengers, outcomes, strict=True):
            if not passenger.outcome.done():  # its caller may have gone
                passenger.outcome.set_result(outcome)
