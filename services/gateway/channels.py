"""The gateway's channels: one for each service of its graphs, opened early, closed late."""

import asyncio
import logging
from collections.abc import AsyncIterator, Iterable, Mapping
from contextlib import AsyncExitStack, asynccontextmanager

import grpc

from services.gateway.config import GatewayConfig
from serving.rpc.channels import open_channel

log = logging.getLogger(__name__)

Channels = Mapping[str, grpc.aio.Channel]  # by full name of the service


@asynccontextmanager
async def open_channels(config: GatewayConfig, services: Iterable[str]) -> AsyncIterator[Channels]:
    """Opens a channel to each service. Raises `ValueError` when one has no target.

    Gives them `start_grace_s` to connect, so that the first answers are whole ones; a service that
    is not there by then is simply absent, and the gateway serves without it.
    """
    targets = {name: config.target(name) for name in sorted(set(services))}
    async with AsyncExitStack() as stack:
        channels = {
            name: await stack.enter_async_context(open_channel(target, health_service=name))
            for name, target in targets.items()
        }
        await _connected(channels, config.start_grace_s)
        yield channels


async def _connected(channels: Channels, grace_s: float) -> None:
    """Returns when all are connected, or after `grace_s` seconds."""
    waiting = {asyncio.create_task(c.channel_ready(), name=name) for name, c in channels.items()}
    if not waiting:
        return
    _, late = await asyncio.wait(waiting, timeout=grace_s)
    for task in late:
        task.cancel()
        log.warning("%s is not there yet; serving without it", task.get_name())
    await asyncio.gather(*late, return_exceptions=True)
