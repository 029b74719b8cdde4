"""What a node's calls are like: measured for the other policies, counted, told when it changes."""

import asyncio
import logging
import math

import grpc
from google.protobuf.message import Message

from services.gateway.metrics import NODE_CALLS, NODE_DURATION
from services.gateway.outcome import EXPIRED, Call, Outcome, has_expired
from services.gateway.policies.latency import LatencyWindow

log = logging.getLogger(__name__)

TOLD_EVERY_S = 10.0  # a node that fails now and then, as under overload, would fill the log


class Watched:
    """Measures single calls of one node. Logs when it begins to fail, and when it answers again.

    What has changed back before it could be told is not told.
    """

    def __init__(self, call: Call, name: str, latency: LatencyWindow) -> None:
        self._call = call
        self._name = name
        self._latency = latency
        self._duration = NODE_DURATION.labels(name)
        self._answered = NODE_CALLS.labels(name, "OK")
        self._told_reason, self._told_at = "", -math.inf

    async def __call__(self, request: Message, deadline: float) -> Outcome:
        loop = asyncio.get_running_loop()
        start = loop.time()
        try:
            outcome = await self._call(request, deadline)
        except asyncio.CancelledError:
            reason = EXPIRED if has_expired(deadline) else "CANCELLED"
            NODE_CALLS.labels(self._name, reason).inc()
            raise
        now = loop.time()
        duration_s = now - start
        self._duration.observe(duration_s)
        if outcome.answer is not None:
            self._latency.add(duration_s)
            self._answered.inc()
        else:
            NODE_CALLS.labels(self._name, outcome.reason).inc()
        self._tell(outcome, now)
        return outcome

    def _tell(self, outcome: Outcome, now: float) -> None:
        if outcome.code is grpc.StatusCode.RESOURCE_EXHAUSTED:
            return  # busy, not broken: under overload every other call
        reason, before = outcome.reason, self._told_reason
        if bool(reason) == bool(before) or now - self._told_at < TOLD_EVERY_S:
            return
        self._told_reason, self._told_at = reason, now
        if reason:
            log.warning("%s fails: %s", self._name, outcome.error)
        else:
            log.info("%s answers again, after %s", self._name, before)
