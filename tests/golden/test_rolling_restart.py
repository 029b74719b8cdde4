"""The real servers, two of each, restarted again and again under load: nobody notices."""

import asyncio
import io
from collections.abc import Sequence
from functools import lru_cache
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from replicated_cluster import ReplicatedCluster, ServerProcess, replicated_cluster
from running_cluster import photo

from cluster.ports import GATEWAY, SERVICES
from fomofeed.gateway.v1 import orchestrator_service_pb2 as pb
from fomofeed.gateway.v1 import orchestrator_service_pb2_grpc as pb_grpc
from serving.rpc.channels import open_channel
from tests.gateway.replicas import Callers

CALLS = 20_000
RATE = 90.0
ASKED_AGAIN = 16  # calls about each picture: the first goes to clip, the gateways remember the rest
SIDE_PX = 160
USERS = 20  # of the demo
PATIENCE_S = 10.0  # a caller's deadline
FOUND_S = 30.0


class Posts:
    """Posts with pictures that nobody has seen before, each asked about several times."""

    def __init__(self) -> None:
        self._photo = Image.open(io.BytesIO(photo("china.jpg"))).convert("RGB")
        self._picture = lru_cache(maxsize=64)(self._crop)

    def __call__(self, index: int) -> pb.OrchestrateRequest:
        media = self._picture(index // ASKED_AGAIN)
        return pb.OrchestrateRequest(
            user_id=index % USERS + 1, media=media, caption=f"No. {index}", tags=["a"]
        )

    def _crop(self, number: int) -> bytes:
        rng = np.random.default_rng(number)
        left = int(rng.integers(self._photo.width - SIDE_PX))
        top = int(rng.integers(self._photo.height - SIDE_PX))
        buffer = io.BytesIO()
        crop = self._photo.crop((left, top, left + SIDE_PX, top + SIDE_PX))
        crop.save(buffer, "JPEG", quality=int(rng.integers(60, 95)))
        return buffer.getvalue()


@pytest.mark.prove
async def test_rolling_restarts_of_every_server_fail_and_degrade_no_call(tmp_path: Path) -> None:
    services = [one for one in SERVICES if one.name not in ("gateway", "moderation")]
    async with (
        replicated_cluster(tmp_path, services) as cluster,
        open_channel(cluster.target, health_service=GATEWAY.rpc_service) as channel,
    ):
        await channel.channel_ready()
        callers = Callers(pb_grpc.OrchestratorServiceStub(channel), Posts())
        over = asyncio.Event()
        calling = asyncio.create_task(callers.call_until(over, RATE, CALLS, PATIENCE_S))
        rounds = await keep_restarting(cluster, callers)
        over.set()
        await calling
    print(f"{dict(callers.counts)} in {rounds} rounds of restarts")
    assert callers.faults == []
    assert [*callers.counts] == ["WHOLE"]
    assert callers.counts["WHOLE"] >= CALLS


async def keep_restarting(cluster: ReplicatedCluster, callers: Callers) -> int:
    """Restarts one server after another until all calls were made; returns the whole rounds."""
    rounds = 0
    await everybody_is_found(cluster, callers)
    while callers.counts.total() < CALLS:
        for server in [*cluster.models, *cluster.gateways]:
            assert await server.end() == 0, f"{server.name} did not end well"
            await server.start()
            await everybody_is_found(cluster, callers)
        rounds += 1
    return rounds


async def everybody_is_found(cluster: ReplicatedCluster, callers: Callers) -> None:
    """Returns once every gateway has answered with the help of every replica."""
    gateways, models = (names_of(group) for group in (cluster.gateways, cluster.models))
    await callers.until_heard_of(gateways, models, FOUND_S)


def names_of(servers: Sequence[ServerProcess]) -> list[str]:
    return [server.name for server in servers]
