"""A rolling restart under load: every server of the graph, two replicas each, and the gateway."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from fomofeed.gateway.v1 import orchestrator_service_pb2_grpc as pb_grpc
from services.gateway.calling import Policies, open_calls
from services.gateway.channels import open_channels
from services.gateway.config import GatewayConfig
from services.gateway.servicer import OrchestratorServicer
from serving.rpc.channels import open_channel
from serving.rpc.server import Server
from tests.gateway.conftest import PLANS, a_post
from tests.gateway.fake_nodes import FakeServices
from tests.gateway.replicas import Callers, Replica

GATEWAY = "fomofeed.gateway.v1.OrchestratorService"
LAME_DUCK_S = 0.8  # the default is 5
PATIENCE_S = 10.0  # a caller's deadline, and how long a restart may take to be noticed
CALLS = 1000
RATE = 60.0


def of_service(name: str, number: int) -> Replica:
    """One of the replicas of a fake service."""

    @asynccontextmanager
    async def furnish(server: Server) -> AsyncIterator[None]:
        server.mount(*FakeServices().mounts()[name])
        yield

    return Replica(f"{name}-{number}", [name], furnish, lame_duck_s=LAME_DUCK_S)


def of_gateway(number: int, config: GatewayConfig, services: list[str]) -> Replica:
    """One of the gateways before the services."""

    @asynccontextmanager
    async def furnish(server: Server) -> AsyncIterator[None]:
        async with (
            open_channels(config, services) as channels,
            open_calls(PLANS, channels, Policies()) as calls,
        ):
            servicer = OrchestratorServicer(PLANS, calls, "analyze")
            server.mount(pb_grpc.add_OrchestratorServiceServicer_to_server, servicer)
            yield

    return Replica(f"gateway-{number}", [GATEWAY], furnish, lame_duck_s=LAME_DUCK_S)


async def started(*pair: Replica) -> str:
    """Starts replicas of one service; returns the target that names them all."""
    for replica in pair:
        await replica.start()
    return "ipv4:" + ",".join(replica.target for replica in pair)


async def everybody_is_found(
    callers: Callers, gateways: list[Replica], replicas: list[Replica]
) -> None:
    """Returns once every gateway reaches every replica: what `minReadySeconds` is for."""
    names = ([one.name for one in group] for group in (gateways, replicas))
    await callers.until_heard_of(*names, PATIENCE_S)


async def test_a_rolling_restart_of_everything_under_load_fails_and_degrades_no_call() -> None:
    replicas: list[Replica] = []
    targets = {}
    for name in FakeServices().mounts():
        pair = [of_service(name, number) for number in range(2)]
        targets[name.split(".")[1]] = await started(*pair)
        replicas += pair
    config = GatewayConfig(**targets)
    gateways = [of_gateway(number, config, [*FakeServices().mounts()]) for number in range(2)]
    target = await started(*gateways)
    async with open_channel(target, health_service=GATEWAY) as channel:
        await channel.channel_ready()
        callers = Callers(
            pb_grpc.OrchestratorServiceStub(channel),
            lambda index: a_post(caption=f"post {index}", moderate=True),
        )
        over = asyncio.Event()
        calling = asyncio.create_task(callers.call_until(over, RATE, CALLS, PATIENCE_S))
        await everybody_is_found(callers, gateways, replicas)
        for replica in [*replicas, *gateways]:
            await replica.end()
            await replica.start()
            await everybody_is_found(callers, gateways, replicas)
        over.set()
        await calling
    for group in (gateways, replicas):
        await asyncio.gather(*(replica.end() for replica in group))
    assert callers.faults == []
    assert [*callers.counts] == ["WHOLE"]
    assert callers.counts["WHOLE"] >= CALLS
