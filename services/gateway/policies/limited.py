"""A node is called only when its limiter has a place; who finds none waits, as long as it pays.

Waiting here costs a place in a sorted list, in the node's own queue it would cost its time. The
most critical go first, and among equals the earliest deadline. Who would be left with less than
twice the time that calls of his class usually take (their p95: a busy server turns away who has
just enough) is refused at once, with the time after which to come again: what waits longer here
only comes too late there. A call that ran out of that much time, or was turned away with it, tells
the limiter of overload; one that had less tells nothing, or callers in a hurry, and those whom this
line made late, would shut out the rest.
"""

import asyncio
from bisect import bisect_left, insort
from collections.abc import Callable
from dataclasses import dataclass
from itertools import count

import grpc
from google.protobuf.message import Message

from services.gateway.outcome import SKIPPED, Call, Outcome, failed, has_expired
from services.gateway.policies.latency import LatencyWindow
from services.gateway.policies.limiter import Limiter
from serving.request import Criticality, current

_BUSY_FACTOR = 2.0  # of the usual time of a call, that one must have left
_CRITICAL_FACTOR = 1.0  # likewise: a busy server displaces others for who is critical
_OVERLOAD = (grpc.StatusCode.RESOURCE_EXHAUSTED, grpc.StatusCode.DEADLINE_EXCEEDED)


@dataclass(frozen=True, slots=True, eq=False)
class _Waiting:
    order: tuple[int, float, int]  # class, deadline, arrival
    criticality: Criticality
    place: asyncio.Future[bool]


class Limited:
    """Calls a node within its limit. `is_optional`: the answer is worth having without it."""

    def __init__(
        self,
        call: Call,
        limiter: Limiter,
        latency: LatencyWindow,
        *,
        is_optional: bool = False,
        max_waiting: int = 1024,
        on_refusal: Callable[[], None] = lambda: None,
    ) -> None:
        self._call = call
        self._limiter = limiter
        self._latency = latency
        self._is_optional = is_optional
        self._max_waiting = max_waiting
        self._on_refusal = on_refusal
        self._own = {c: LatencyWindow(latency.quantile_s(0.95)) for c in Criticality}
        self._line: list[_Waiting] = []
        self._arrivals = count()

    async def __call__(self, request: Message, deadline: float) -> Outcome:
        """Refuses within microseconds when there is no place and waiting would not pay."""
        criticality = current().criticality
        if self._line or not self._limiter.try_acquire(criticality, self._is_optional):
            if (wait_s := self._refused_for_s(criticality, deadline)) is not None:
                return self._refusal(wait_s)
            if not await self._place(criticality, deadline):
                return self._refusal(self._latency.quantile_s(0.5))
        return await self._run(request, deadline, criticality)

    def _refused_for_s(self, criticality: Criticality, deadline: float) -> float | None:
        """How long to stay away, None when there is a place in the line that pays."""
        usual_s = self._latency.quantile_s(0.5)
        ahead = bisect_left(self._line, (-criticality, deadline), key=lambda w: w.order[:2])
        wait_s = usual_s * (ahead + 1) / self._limiter.limit
        is_late = self._is_late(criticality, deadline, wait_s, _factor(criticality))
        return wait_s if is_late or len(self._line) >= self._max_waiting else None

    def _is_late(
        self,
        criticality: Criticality,
        deadline: float,
        wait_s: float = 0.0,
        factor: float = _BUSY_FACTOR,
    ) -> bool:
        """Whether a call made after `wait_s` has too little time left for a busy node."""
        own = self._own[criticality]
        usual_s = (own if own.is_learned else self._latency).quantile_s(0.95)
        left_s = deadline - asyncio.get_running_loop().time()
        return left_s < wait_s + factor * usual_s

    def _refusal(self, wait_s: float) -> Outcome:
        self._on_refusal()
        return failed(
            grpc.StatusCode.RESOURCE_EXHAUSTED,
            f"{self._limiter.in_flight} calls run, {len(self._line)} wait",
            reason=SKIPPED if self._is_optional else "",
            retry_after_s=wait_s,
            attempts=0,
        )

    async def _place(self, criticality: Criticality, deadline: float) -> bool:
        """Waits for a place; False when it came too late to be of use."""
        place: asyncio.Future[bool] = asyncio.get_running_loop().create_future()
        waiting = _Waiting((-criticality, deadline, next(self._arrivals)), criticality, place)
        insort(self._line, waiting, key=lambda w: w.order)
        self._admit()
        try:
            return await place
        except asyncio.CancelledError:
            if (
                place.done() and not place.cancelled() and place.result()
            ):  # it had its place, and does not need it
                self._limiter.release(None)
                self._admit()
            elif waiting in self._line:
                self._line.remove(waiting)
            raise

    def _admit(self) -> None:
        """Gives free places to those at the head; who stands behind may use no more than they."""
        while self._line:
            first = self._line[0]
            if first.place.cancelled():  # its caller is on his way out
                del self._line[0]
                continue
            factor = _factor(first.criticality)
            is_late = self._is_late(first.criticality, first.order[1], factor=factor)
            if not is_late and not self._limiter.try_acquire(first.criticality, self._is_optional):
                return
            del self._line[0]
            first.place.set_result(not is_late)

    async def _run(self, request: Message, deadline: float, criticality: Criticality) -> Outcome:
        loop = asyncio.get_running_loop()
        start = loop.time()
        had_time = self._latency.is_learned and not self._is_late(criticality, deadline)
        try:
            outcome = await self._call(request, deadline)
        except BaseException:
            self._leave(had_time and has_expired(deadline), None)
            raise
        is_overload = outcome.code in _OVERLOAD and had_time
        duration_s = None
        if outcome.answer is not None:
            duration_s = loop.time() - start
            self._own[criticality].add(duration_s)
        self._leave(is_overload, duration_s)
        return outcome

    def _leave(self, is_overload: bool, duration_s: float | None) -> None:
        if is_overload:
            self._limiter.overloaded()
        else:
            self._limiter.release(duration_s)
        self._admit()


def _factor(criticality: Criticality) -> float:
    return _CRITICAL_FACTOR if criticality is Criticality.CRITICAL else _BUSY_FACTOR
