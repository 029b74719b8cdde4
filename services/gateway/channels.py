"""The gateway's channels: one for each service of its graphs, opened early, closed late."""

import asyncio
import logging
from collections.abc import AsyncIterator, Callable, Iterable, Mapping
from contextlib import AsyncExitStack, asynccontextmanager

import grpc

from services.gateway.config import GatewayConfig
from serving.rpc.channels import open_channel

log = logging.getLogger(__name__)


class ServiceChannel:
    """A channel to one service that stays connected, and tells when it has connected anew."""

    def __init__(self, name: str, channel: grpc.aio.Channel) -> None:
        self.grpc = channel
        self._name = name
        self._listeners: list[Callable[[], None]] = []

    def on_connect(self, listener: Callable[[], None]) -> None:
        """Has `listener` called whenever a healthy connection is there again."""
        self._listeners.append(listener)

    async def watch(self) -> None:
        """Follows the connection until it is cancelled; asks for a new one when it is lost."""
        state = self.grpc.get_state(try_to_connect=True)
        while True:
            await self.grpc.wait_for_state_change(state)
            state = self.grpc.get_state(try_to_connect=True)
            if state is grpc.ChannelConnectivity.READY:
                for listener in self._listeners:
                    listener()

    async def ready(self, grace_s: float) -> None:
        """Returns when connected, or after `grace_s` seconds."""
        try:
            await asyncio.wait_for(self.grpc.channel_ready(), grace_s)
        except TimeoutError:
            log.warning("%s is not there yet; serving without it", self._name)


Channels = Mapping[str, ServiceChannel]  # by full name of the service


@asynccontextmanager
async def open_channels(config: GatewayConfig, services: Iterable[str]) -> AsyncIterator[Channels]:
    """Opens a channel to each service. Raises `ValueError` when one has no target.

    Gives them `start_grace_s` to connect, so that the first answers are whole ones; a service that
    is not there by then is simply absent, and the gateway serves without it.
    """
    targets = {name: config.target(name) for name in sorted(set(services))}
    async with AsyncExitStack() as stack:
        channels = {
            name: ServiceChannel(
                name, await stack.enter_async_context(open_channel(target, health_service=name))
            )
            for name, target in targets.items()
        }
        watches = [asyncio.create_task(channel.watch()) for channel in channels.values()]
        stack.push_async_callback(_stop, watches)
        await asyncio.gather(
            *(channel.ready(config.start_grace_s) for channel in channels.values())
        )
        yield channels


async def _stop(watches: list[asyncio.Task[None]]) -> None:
    for watch in watches:
        watch.cancel()
    await asyncio.wait(watches)
