"""`oip_on` runs the protocol's servicer over models behind a real server on a free port."""

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import AsyncExitStack
from typing import Any

import grpc
import pytest

from inference import grpc_service_pb2_grpc as pb_grpc
from serving.models.served import Models
from serving.oip.mounting import mount
from serving.oip.servicer import SERVICE_NAME
from serving.rpc.channels import open_channel
from serving.rpc.lifecycle import Phase
from serving.rpc.server import Server, ServerConfig


class Running:
    """A server that says SERVING, with a channel and a stub to it."""

    def __init__(self, server: Server, channel: grpc.aio.Channel) -> None:
        self.server, self.channel = server, channel
        self.target = f"127.0.0.1:{server.port}"
        self.stub: Any = pb_grpc.GRPCInferenceServiceStub(channel)


ServeModels = Callable[[Models], Awaitable[Running]]


@pytest.fixture
async def oip_on() -> AsyncIterator[ServeModels]:
    """`await oip_on(models)`: models that are open already, or a repository to enter."""
    async with AsyncExitStack() as stack:

        async def serve(models: Any) -> Running:
            stop = asyncio.Event()
            config = ServerConfig(metrics_port=None, lame_duck_s=0.0)
            server = await stack.enter_async_context(Server(config, "test", [SERVICE_NAME]))
            await mount(server, models)
            if hasattr(models, "__aenter__"):
                await stack.enter_async_context(models)
            serving = asyncio.create_task(server.serve(stop))
            stack.push_async_callback(asyncio.wait_for, serving, 30)
            stack.callback(stop.set)
            await server.entered(Phase.SERVING)
            opened = open_channel(f"127.0.0.1:{server.port}", health_service=None)
            channel = await stack.enter_async_context(opened)
            await channel.channel_ready()
            return Running(server, channel)

        yield serve
