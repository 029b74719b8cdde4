"""Compute once: callers who ask a node the same at the same time share one call of it.

The first of them makes it, in his own task, as most have no company; the others wait for what he
hears. If he leaves, by cancellation or because his time is over, the call ends with him, and the
next of them makes it again: seldom enough, and a task for every call would cost all of them more.
Callers share only with their own tenant and class, for a call carries both. Only for idempotent
nodes.
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
    """One call that runs, until when at most, and who else waits for it."""

    deadline: float
    followers: list[asyncio.Future[Outcome | None]] = field(default_factory=list)

    def land(self, outcome: Outcome | None) -> None:
        """Tells those who wait; None when whoever made the call has left it."""
        for follower in self.followers:
            if not follower.done():
                follower.set_result(outcome)


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
            outcome = await self._follow(flight)
            if outcome is not None and not _had_less_time(outcome, flight, deadline):
                return without_work(outcome)
        outcome = await self._lead(key, request, deadline)
        if self._cache is not None:
            self._cache.learn(facts.tenant, content, outcome)
        return outcome

    async def _lead(self, key: _Key, request: Message, deadline: float) -> Outcome:
        flight = self._flights[key] = _Flight(deadline)
        outcome = None
        try:
            outcome = await self._call(request, deadline)
            return outcome
        finally:
            del self._flights[key]
            flight.land(outcome)

    async def _follow(self, flight: _Flight) -> Outcome | None:
        landed: asyncio.Future[Outcome | None] = asyncio.get_running_loop().create_future()
        flight.followers.append(landed)
        return await landed


def _had_less_time(outcome: Outcome, flight: _Flight, deadline: float) -> bool:
    """Whether a call failed for the want of time that who has until `deadline` does not lack."""
    return outcome.code is grpc.StatusCode.DEADLINE_EXCEEDED and deadline > flight.deadline
