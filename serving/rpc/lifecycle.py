"""The phases of a server, and who is told of each: health, metrics, the log.

Up: STARTING, LOADING, SERVING. Down: LAME_DUCK (says NOT_SERVING but serves on, so that clients
move away without one failed call), DRAINING (refuses new calls, finishes the accepted ones),
STOPPED. `liveness` is SERVING in every phase: it only says that the event loop turns.
"""

import asyncio
import logging
from collections.abc import Sequence
from enum import Enum

from grpc_health.v1 import health_pb2

from serving import telemetry
from serving.errors import NotReadyError, ServingError
from serving.rpc.health import Health

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
        self.health = Health()
        self._service = service
        self._is_ready = dict.fromkeys(("", *service_names), True)
        self._entered = {phase: asyncio.Event() for phase in Phase}

    def enter(self, phase: Phase) -> None:
        """Makes `phase` the current one and tells everybody who asks or watches."""
        self.phase = phase
        for name in self._is_ready:
            self._publish(name)
        self.health.set(LIVENESS, _SERVING)
        for other in Phase:
            telemetry.PHASE.labels(other.value).set(other is phase)
        self._entered[phase].set()
        log.info("%s is %s", self._service, phase.value)

    def report(self, name: str, is_ready: bool) -> None:
        """Says whether one health name may be SERVING while the server is: a model, or "" = all."""
        self._is_ready[name] = is_ready
        self._publish(name)

    def is_serving(self, name: str = "") -> bool:
        """Whether a health name is SERVING."""
        return self.phase is Phase.SERVING and self._is_ready.get(name, False)

    def _publish(self, name: str) -> None:
        self.health.set(name, _SERVING if self.is_serving(name) else _NOT_SERVING)

    async def entered(self, phase: Phase) -> None:
        """Returns when `phase` has been entered."""
        await self._entered[phase].wait()

    def refusal(self) -> ServingError | None:
        """Returns why a new call is refused now, None when it is welcome."""
        state = _REFUSES.get(self.phase)
        return NotReadyError(state) if state else None
