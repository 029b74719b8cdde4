"""Coalescing: calls of one node that arrive while one is in flight travel together in the next.

The batcher of the servers, with the wire as its engine: an idle node is called at once, by its own
method, and one request alone waits for nobody. A call that is slower than usual holds up nobody
either: after the time that calls of the node usually take, the next may go, perhaps to another
replica. A batch holds callers of one tenant and class, whose deadlines are at most a factor of two
apart, since a batch is as long as its last. Each leaves alone; the last one cancels the wire.
"""

import asyncio
import math
from collections.abc import Sequence
from dataclasses import dataclass, replace
from types import TracebackType

import grpc
from google.protobuf.message import Message
from google.rpc import status_pb2

from services.gateway.batches import BatchPlan
from services.gateway.outcome import SKIPPED, Call, Outcome, failed
from services.gateway.policies.latency import LatencyWindow
from services.gateway.status import failure
from serving.errors import QueueFullError, ServingError
from serving.request import CallFacts, current, enter
from serving.scheduling.batcher import Batcher
from serving.scheduling.scheduler import BatchingConfig

MAX_ROWS = 32  # requests of one batch: the least that a server of this house takes
MAX_BYTES = 24 * 1024 * 1024  # of one batch; a message may have 32 MiB

# What a server says of a batch as a whole when its requests may be good one by one.
_OF_THE_BATCH = (grpc.StatusCode.INVALID_ARGUMENT, grpc.StatusCode.UNIMPLEMENTED)


@dataclass(slots=True, eq=False)
class _Passenger:
    """One request, and the call that it travels in, once there is one."""

    request: Message
    deadline: float
    facts: CallFacts
    flight: "_Flight | None" = None
    seat: int = 0

    def leave(self) -> None:
        if self.flight is not None:
            self.flight.callers -= 1
            if not self.flight.callers:
                self.flight.task.cancel()


@dataclass(slots=True, eq=False)
class _Flight:
    """One call over the wire, for as many as wait for it."""

    task: asyncio.Task[list[Outcome]]
    callers: int


class Coalesced:
    """Calls one node; an async context manager. `single` and `together` go over the wire."""

    def __init__(
        self,
        name: str,
        single: Call,
        together: Call,
        batch: BatchPlan,
        expected_s: float,
        is_optional: bool,
    ) -> None:
        self._single = single
        self._together = together
        self._batch = batch
        self._expected_s = expected_s
        self._is_optional = is_optional
        self._latency = LatencyWindow(expected_s)  # of flights, whoever is in them
        self._flights: set[asyncio.Task[list[Outcome]]] = set()
        limits = BatchingConfig(max_batch_rows=MAX_ROWS, max_batch_cost=MAX_BYTES)
        self._batcher: Batcher[_Passenger, _Flight] = Batcher(
            [self._depart], limits, f"gateway_{name}"
        )

    async def __aenter__(self) -> "Coalesced":
        await self._batcher.__aenter__()
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        await self._batcher.__aexit__(kind, error, trace)
        if self._flights:
            await asyncio.wait(self._flights)

    async def __call__(self, request: Message, deadline: float) -> Outcome:
        """Makes one attempt, alone or in company."""
        facts = current()
        passenger = _Passenger(request, deadline, facts)
        left_s = deadline - asyncio.get_running_loop().time()
        try:
            flight = await self._batcher.submit(
                passenger,
                cost=request.ByteSize(),
                bucket=(facts.tenant, facts.criticality, math.frexp(max(left_s, 1e-3))[1]),
                deadline=deadline,
                criticality=facts.criticality,
            )
            if not flight.task.done():
                await asyncio.wait([flight.task])
        except ServingError as error:
            return self._refusal(error)
        except asyncio.CancelledError:
            passenger.leave()
            raise
        return flight.task.result()[passenger.seat]

    def _refusal(self, error: ServingError) -> Outcome:
        reason = SKIPPED if self._is_optional and isinstance(error, QueueFullError) else ""
        return failed(
            error.code, str(error), reason=reason, retry_after_s=error.retry_after_s, attempts=0
        )

    async def _depart(self, passengers: list[_Passenger]) -> list[_Flight]:
        """Starts one call; returns when it has ended, or has taken what is usual."""
        task = asyncio.create_task(self._fly(passengers))
        self._flights.add(task)
        task.add_done_callback(self._flights.discard)
        flight = _Flight(task, len(passengers))
        for seat, passenger in enumerate(passengers):
            passenger.flight, passenger.seat = flight, seat
        usual_s = max(self._expected_s, self._latency.quantile_s(0.95))
        await asyncio.wait([task], timeout=usual_s)
        return [flight] * len(passengers)

    async def _fly(self, passengers: Sequence[_Passenger]) -> list[Outcome]:
        enter(passengers[0].facts)
        start = asyncio.get_running_loop().time()
        outcomes = await self._answers(passengers)
        if any(outcome.answer is not None for outcome in outcomes):
            self._latency.add(asyncio.get_running_loop().time() - start)
        return outcomes

    async def _answers(self, passengers: Sequence[_Passenger]) -> list[Outcome]:
        if len(passengers) == 1:
            return [await self._single(passengers[0].request, passengers[0].deadline)]
        deadline = max(passenger.deadline for passenger in passengers)
        batch = self._batch.pack([passenger.request for passenger in passengers])
        outcome = await self._together(batch, deadline)
        if outcome.answer is not None:
            return self._outcomes(outcome, len(passengers))
        if outcome.code in _OF_THE_BATCH:
            alone = (self._single(one.request, one.deadline) for one in passengers)
            return list(await asyncio.gather(*alone))
        return [outcome] * len(passengers)

    def _outcomes(self, outcome: Outcome, count: int) -> list[Outcome]:
        assert outcome.answer is not None
        results = self._batch.unpack(outcome.answer)
        if len(results) != count:
            text = f"{len(results)} results for {count} requests"
            return [failed(grpc.StatusCode.INTERNAL, text, ledger=outcome.ledger)] * count
        return [self._outcome(outcome, result, seat) for seat, result in enumerate(results)]

    def _outcome(self, outcome: Outcome, result: Message | status_pb2.Status, seat: int) -> Outcome:
        if not isinstance(result, status_pb2.Status):
            return Outcome(result, ledger=outcome.ledger)
        lost = failure(result, outcome.ledger)
        named = (self._batch.in_single_words(violation, seat) for violation in lost.violations)
        return replace(lost, violations=tuple(named))
