"""What every test may use: `serving_on` runs servicers behind a real server on a free port."""

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from contextlib import AsyncExitStack, asynccontextmanager
from typing import Any

import grpc
import hypothesis
import pytest

from serving.rpc.channels import open_channel
from serving.rpc.lifecycle import Phase
from serving.rpc.server import Server, ServerConfig

# The same examples on every machine; `--hypothesis-profile=explore` looks for new ones.
hypothesis.settings.register_profile("repeatable", derandomize=True, deadline=None)
hypothesis.settings.register_profile("explore", deadline=None)
hypothesis.settings.load_profile("repeatable")

Mount = tuple[Callable[[Any, grpc.aio.Server], None], Any]


class RunningServer:
    """A server that says SERVING, and a channel to it."""

    def __init__(self, server: Server, channel: grpc.aio.Channel, stop: asyncio.Event) -> None:
        self.server, self.channel, self.stop = server, channel, stop
        self.target = f"127.0.0.1:{server.port}"


@asynccontextmanager
async def running(
    mounts: Sequence[Mount], names: Sequence[str] = (), **config: Any
) -> AsyncIterator[RunningServer]:
    """Runs a server with `mounts` on a free port until the block ends; drains without delay."""
    settings = ServerConfig(**{"metrics_port": None, "lame_duck_s": 0.0, **config})
    stop = asyncio.Event()
    async with Server(settings, "test", names) as server:
        for add_to_server, servicer in mounts:
            server.mount(add_to_server, servicer)
        serving = asyncio.create_task(server.serve(stop))
        await server.entered(Phase.SERVING)
        async with open_channel(f"127.0.0.1:{server.port}", health_service=None) as channel:
            await channel.channel_ready()
            yield RunningServer(server, channel, stop)
        stop.set()
        await serving


Serve = Callable[..., Awaitable[RunningServer]]


@pytest.fixture
async def serving_on() -> AsyncIterator[Serve]:
    """`await serving_on([(add_XServicer_to_server, servicer)])` gives a `RunningServer`."""
    async with AsyncExitStack() as stack:

        async def serve(
            mounts: Sequence[Mount], names: Sequence[str] = (), **config: Any
        ) -> RunningServer:
            return await stack.enter_async_context(running(mounts, names, **config))

        yield serve
