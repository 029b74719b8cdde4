"""Compute once: callers who ask a node the same at the same time share one call of it.

The shared call belongs to none of them. Who leaves, by cancellation or because his time is over,
leaves it to the others; the last one out cancels it, and the wire hears of it. Callers share only
with their own tenant and class, for a call carries both. A call that ran out of its starter's time
is made again by those who have more. Only for idempotent nodes.
"""

import asyncio
import hashlib
from collections.abc import Callable
from dataclasses import dataclass, field

import grpc
from google.protobuf.message import Message

from services.gateway.outcome import Call, Outcome
from services.gateway.policies.cache import NodeCache, without_work
from serving.request import Criticality, current

_Key = tuple[bytes, str, Criticality]  # the request, or its SHA-256 where answers are remembered


@dataclass(slots=True, eq=False)
class _Flight:
    """One call that runs, until when at most, and who waits for it."""

    deadline: float
    callers: list[asyncio.Future[None]] = field(default_factory=list)
    task: asyncio.Task[Outcome] = field(init=False)


class Once:
    """Makes identical calls one, and gives remembered answers again where there is a cache."""

    def __init__(
        self,
        call: Call,
        cache: NodeCache | None = None,
        on_share: Callable[[], None] = lambda: None,
    ) -> None:
        self._call = call
        self._cache = cache
        self._on_share = on_share
        self._flights: dict[_Key, _Flight] = {}

    async def __call__(self, request: Message, deadline: float) -> Outcome:
        """Returns the outcome of the own call, or of another's on the same request."""
        facts = current()
        content = request.SerializeToString(deterministic=True)
        if self._cache is not None:
            content = hashlib.sha256(content).digest()
            if known := self._cache.get(facts.tenant, content):
                return known
        key = (content, facts.tenant, facts.criticality)
        while (flight := self._flights.get(key)) is not None:
            self._on_share()
            outcome = await self._wait(key, flight)
            if outcome.code is not grpc.StatusCode.DEADLINE_EXCEEDED or deadline <= flight.deadline:
                return without_work(outcome)
        outcome = await self._wait(key, self._start(key, request, deadline))
        if self._cache is not None:
            self._cache.learn(facts.tenant, content, outcome)
        return outcome

    def _start(self, key: _Key, request: Message, deadline: float) -> _Flight:
        flight = self._flights[key] = _Flight(deadline)
        flight.task = asyncio.get_running_loop().create_task(self._fly(key, flight, request))
        return flight

    async def _fly(self, key: _Key, flight: _Flight, request: Message) -> Outcome:
        try:
            return await self._call(request, flight.deadline)
        finally:
            self._forget(key, flight)
            for caller in flight.callers:  # who wake up when this task has ended
                if not caller.done():
                    caller.set_result(None)

    async def _wait(self, key: _Key, flight: _Flight) -> Outcome:
        caller = asyncio.get_running_loop().create_future()
        flight.callers.append(caller)
        try:
            await caller
        except asyncio.CancelledError:
            flight.callers.remove(caller)
            if not flight.callers and not flight.task.done():
                self._forget(key, flight)
                flight.task.cancel()
                await asyncio.wait([flight.task])
            raise
        return flight.task.result()

    def _forget(self, key: _Key, flight: _Flight) -> None:
        if self._flights.get(key) is flight:
            del self._flights[key]
