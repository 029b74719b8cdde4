"""A real gRPC server on a free port whose one method does what the test programs it to do."""

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from typing import Any

import grpc
from grpc_health.v1 import health_pb2
from grpc_reflection.v1alpha import reflection

SERVICE = "grpc.health.v1.Health"
METHOD = f"/{SERVICE}/Check"  # any method with known messages will do

Behaviour = Callable[[int, Any], Awaitable[None]]


class ProgrammableServer:
    """Answers calls in the order in which they come, one at a time: `behave(n, context)` first."""

    def __init__(self, behave: Behaviour) -> None:
        self.requests: list[str] = []
        self._behave = behave
        self._turn = asyncio.Lock()

    async def check(self, request: health_pb2.HealthCheckRequest, context: Any) -> Any:
        number = len(self.requests)
        self.requests.append(request.service)
        async with self._turn:
            await self._behave(number, context)
        return health_pb2.HealthCheckResponse(status="SERVING")


@asynccontextmanager
async def serving(server: ProgrammableServer) -> AsyncIterator[str]:
    """Serves with reflection; gives the address."""
    grpc_server = grpc.aio.server()
    handler = grpc.unary_unary_rpc_method_handler(
        server.check,
        health_pb2.HealthCheckRequest.FromString,
        health_pb2.HealthCheckResponse.SerializeToString,
    )
    handlers = grpc.method_handlers_generic_handler(SERVICE, {"Check": handler})
    grpc_server.add_generic_rpc_handlers((handlers,))
    reflection.enable_server_reflection((SERVICE, reflection.SERVICE_NAME), grpc_server)
    port = grpc_server.add_insecure_port("127.0.0.1:0")
    await grpc_server.start()
    try:
        yield f"127.0.0.1:{port}"
    finally:
        await grpc_server.stop(None)


async def at_once(number: int, context: Any) -> None:
    """Answers without delay."""
