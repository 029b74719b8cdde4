"""The phases of a server, and who is told of each: health, metrics, the log.

Up: STARTING, LOADING, SERVING. Down: LAME_DUCK (says NOT_SERVING but serves on, so that clients
move away without one failed call), DRAINING (refuses new calls, finishes the accepted ones),
STOPPED. `liveness` is SERVING in every phase: it only says that the event loop turns.
"""

import asyncio
import logging
from collections.abc import Sequence
from enum import Enum

from grpc_health.v1 import health, health_pb2

from serving import telemetry
from serving.errors import NotReadyError, ServingError

log = logging.getLogger(__name__)

LIVENESS = "liveness"
_SERVING = health_pb2.HealthCheckResponse.SERVING
_NOT_SERVING = health_pb2.HealthCheckResponse.NOT_SERVING


class Phase(Enum):
    """Where a server is between start and exit."""

    STARTING = "starting"
    LOADING = "loading"
    SERVING = "serving"
    LAME_DUCK = "lame_duck"
    DRAINING = "draining"
    STOPPED = "stopped"


_REFUSES = {
    Phase.STARTING: "loading",
    Phase.LOADING: "loading",
    Phase.DRAINING: "draining",
    Phase.STOPPED: "stopped",
}


class Lifecycle:
    """Holds the phase of one server. Used from the event loop only."""

    def __init__(self, service: str, service_names: Sequence[str]) -> None:
        self.phase = Phase.STARTING
        self.health = health.aio.HealthServicer()
        self._service = service
        self._names = ("", *service_names)
        self._entered = {phase: asyncio.Event() for phase in Phase}

    async def enter(self, phase: Phase) -> None:
        """Makes `phase` the current one and tells everybody who asks or watches."""
        self.phase = phase
        ready = _SERVING if phase is Phase.SERVING else _NOT_SERVING
        for name in self._names:
            await self.health.set(name, ready)
        await self.health.set(LIVENESS, _SERVING)
        for other in Phase:
            telemetry.PHASE.labels(other.value).set(other is phase)
        self._entered[phase].set()
        log.info("%s is %s", self._service, phase.value)

    async def entered(self, phase: Phase) -> None:
        """Returns when `phase` has been entered."""
        await self._entered[phase].wait()

    def refusal(self) -> ServingError | None:
        """Returns why a new call is refused now, None when it is welcome."""
        state = _REFUSES.get(self.phase)
        return NotReadyError(state) if state else None
