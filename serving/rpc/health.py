"""`grpc.health.v1`: the state of each name, told to whoever asks, lists or watches.

gRPC's own servicer holds a lock while it writes to a watcher: one that does not read its answers
kept all others, and the server's drain, waiting. Here nobody waits for a watcher; one that was slow
hears of the last state and not of those between.
"""

import asyncio
from collections.abc import AsyncIterator
from typing import Any

import grpc
from grpc_health.v1 import health_pb2, health_pb2_grpc

Context = grpc.aio.ServicerContext[Any, Any]
Status = int  # health_pb2.HealthCheckResponse.ServingStatus
_NEWER: Any = health_pb2  # than its stubs, which know no List
_UNKNOWN = health_pb2.HealthCheckResponse.SERVICE_UNKNOWN


class Health(health_pb2_grpc.HealthServicer):
    """Used from the event loop only."""

    def __init__(self) -> None:
        self._statuses: dict[str, Status] = {"": health_pb2.HealthCheckResponse.NOT_SERVING}
        self._changed = asyncio.Event()  # set, and replaced, at every change

    def set(self, name: str, status: Status) -> None:
        """Makes `status` that of a name."""
        if self._statuses.get(name) == status:
            return
        self._statuses[name] = status
        self._changed.set()
        self._changed = asyncio.Event()

    async def Check(
        self, request: health_pb2.HealthCheckRequest, context: Context
    ) -> health_pb2.HealthCheckResponse:
        """Answers `NOT_FOUND` for a name that nobody has set."""
        if request.service not in self._statuses:
            await context.abort(grpc.StatusCode.NOT_FOUND, "unknown service")
        return health_pb2.HealthCheckResponse(status=self._statuses[request.service])

    async def List(self, _: Any, context: Context) -> Any:
        """Answers with all names."""
        statuses = {
            name: health_pb2.HealthCheckResponse(status=status)
            for name, status in self._statuses.items()
        }
        return _NEWER.HealthListResponse(statuses=statuses)

    async def Watch(
        self, request: health_pb2.HealthCheckRequest, context: Context
    ) -> AsyncIterator[health_pb2.HealthCheckResponse]:
        """Answers now and at every change, until the caller leaves."""
        told = None
        while True:
            changed, status = self._changed, self._statuses.get(request.service, _UNKNOWN)
            if status != told:
                yield health_pb2.HealthCheckResponse(status=status)
                told = status
            else:
                await changed.wait()
