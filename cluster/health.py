"""Asks servers for their health, as Kubernetes does."""

import asyncio
from typing import Any

import grpc
from grpc_health.v1 import health_pb2, health_pb2_grpc

# A server that starts is dialled again soon after it refused.
_EAGER = (
    ("grpc.initial_reconnect_backoff_ms", 50),
    ("grpc.min_reconnect_backoff_ms", 50),
    ("grpc.max_reconnect_backoff_ms", 200),
    ("grpc.use_local_subchannel_pool", 1),  # no back-off inherited from an earlier channel
)

_Health: Any = health_pb2_grpc.HealthStub  # its types do not know the methods


async def until_serving(target: str) -> None:
    """Returns once the server at `target` reports SERVING; waits for ever if it never does."""
    while True:
        async with grpc.aio.insecure_channel(target, options=_EAGER) as channel:
            watch = _Health(channel).Watch(health_pb2.HealthCheckRequest(), wait_for_ready=True)
            try:
                # `read` and not `async for`, whose generator would keep the connection open
                while (answer := await watch.read()) is not grpc.aio.EOF:
                    if answer.status == health_pb2.HealthCheckResponse.SERVING:
                        return
            except grpc.aio.AioRpcError:
                continue  # the server died while we watched: the next one is awaited


async def ask(target: str, timeout_s: float = 1.0) -> str:
    """The health of the server at `target`, for people: `SERVING`, `NOT_SERVING`, `no answer`."""
    async with grpc.aio.insecure_channel(target, options=_EAGER) as channel:
        stub = _Health(channel)
        try:
            answer = await stub.Check(health_pb2.HealthCheckRequest(), timeout=timeout_s)
        except grpc.aio.AioRpcError:
            return "no answer"
    return health_pb2.HealthCheckResponse.ServingStatus.Name(answer.status)


async def ask_all(targets: list[str]) -> list[str]:
    """The health of several servers, asked at once."""
    return list(await asyncio.gather(*(ask(target) for target in targets)))
