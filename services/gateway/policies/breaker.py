"""The circuit breaker of a node: after a row of failures it is left alone for a while.

A service that only ran out of time is asked again after a second: a machine that was busy for a
moment must not cost a minute of whole answers, and one call a second finds a hung one soon enough.

Only what an answering service did wrong counts: a refused connection or a drained server is
absence, told by the channel itself, and a caller's own mistake is no failure at all. Running out of
time counts only when the call had been given the time that the node usually takes, and when nobody
else has been answered within that time: a queue that drops five at once is busy, not broken.

closed -> (failures in a row) -> open -> (time) -> half open: one probe -> closed, or open again.
A channel that connects anew closes it at once: whoever comes back is not the one who failed.
"""

import asyncio
import math
from collections.abc import Callable
from dataclasses import dataclass
from enum import Enum

import grpc
from google.protobuf.message import Message

from services.gateway.outcome import Call, Outcome, failed, has_expired
from services.gateway.policies.latency import LatencyWindow

OPEN = "BREAKER_OPEN"

_Code = grpc.StatusCode
_ANSWERS = (_Code.OK, _Code.INVALID_ARGUMENT, _Code.NOT_FOUND)
_FAILURES = (_Code.INTERNAL, _Code.UNKNOWN, _Code.DATA_LOSS, _Code.UNIMPLEMENTED)


@dataclass(frozen=True, slots=True)
class BreakerConfig:
    """When a breaker opens, and for how long."""

    failure_count: int = 5  # in a row, >= 1
    open_s: float = 60.0  # until one probe is let through, > 0
    slow_open_s: float = 1.0  # the same when the last failure was one of time, > 0

    def __post_init__(self) -> None:
        if self.failure_count < 1 or self.open_s <= 0 or self.slow_open_s <= 0:
            raise ValueError("breaker: failure_count is >= 1, open_s and slow_open_s > 0")


class State(Enum):
    """Of a breaker."""

    CLOSED = "closed"
    OPEN = "open"
    HALF_OPEN = "half open"


class Breaker:
    """Pure: time comes in as an argument, in seconds of any one clock."""

    def __init__(self, config: BreakerConfig, on_change: Callable[[State], None]) -> None:
        self._config = config
        self._on_change = on_change
        self._failures = 0
        self._probe_at = 0.0
        self.state = State.CLOSED

    def allows(self, now: float) -> bool:
        """Whether a call may be made now; the one that ends the open time is the probe."""
        if self.state is State.OPEN and now >= self._probe_at:
            self._enter(State.HALF_OPEN)
            return True
        return self.state is State.CLOSED

    def succeeded(self) -> None:
        """Notes a call that the service answered properly."""
        self._failures = 0
        self._enter(State.CLOSED)

    def failed(self, now: float, *, was_slow: bool = False) -> None:
        """Notes a call that the service failed, or did not answer in time."""
        self._failures += 1
        if self.state is State.HALF_OPEN or self._failures >= self._config.failure_count:
            open_s = self._config.slow_open_s if was_slow else self._config.open_s
            self._probe_at = now + open_s
            self._enter(State.OPEN)

    def abandoned(self, now: float) -> None:
        """Notes a call that says nothing about the service; another may be the probe."""
        if self.state is State.HALF_OPEN:
            self._probe_at = now
            self._enter(State.OPEN)

    def reset(self) -> None:
        """Closes the breaker: the service has come back."""
        self.succeeded()

    def _enter(self, state: State) -> None:
        if state is not self.state:
            self.state = state
            self._on_change(state)


class Guarded:
    """Calls a node only while its breaker allows it."""

    def __init__(self, call: Call, breaker: Breaker, latency: LatencyWindow) -> None:
        self._call = call
        self._breaker = breaker
        self._latency = latency
        self._answered_at = -math.inf

    async def __call__(self, request: Message, deadline: float) -> Outcome:
        """Refuses within microseconds while the breaker is open."""
        loop = asyncio.get_running_loop()
        now = loop.time()
        if not self._breaker.allows(now):
            text = "left alone after failures in a row"
            return failed(_Code.UNAVAILABLE, text, reason=OPEN, attempts=0)
        left_s = deadline - now
        try:
            outcome = await self._call(request, deadline)
        except asyncio.CancelledError:  # at the deadline: by the executor, like the wire's own
            code = _Code.DEADLINE_EXCEEDED if has_expired(deadline) else _Code.CANCELLED
            self._judge(code, left_s, loop.time())
            raise
        self._judge(outcome.code, left_s, loop.time())
        return outcome

    def _judge(self, code: grpc.StatusCode, left_s: float, now: float) -> None:
        """Tells the breaker what the end of a call that had `left_s` says of the service."""
        is_slow = code is _Code.DEADLINE_EXCEEDED
        if code in _ANSWERS:
            self._answered_at = now
            self._breaker.succeeded()
        elif code in _FAILURES or (is_slow and self._is_unusual(left_s, now)):
            self._breaker.failed(now, was_slow=is_slow)
        else:
            self._breaker.abandoned(now)

    def _is_unusual(self, left_s: float, now: float) -> bool:
        """Whether a call that ran out of time had enough, and nobody else was answered in it."""
        usual_s = self._latency.quantile_s(0.95)
        return left_s >= usual_s and now - self._answered_at >= usual_s
