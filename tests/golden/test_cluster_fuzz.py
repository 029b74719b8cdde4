"""Whatever is sent to a server, it answers, does not grow, and answers the next one rightly."""

import asyncio
import random
from collections.abc import Iterator

import pytest
from running_cluster import RunningCluster, request, running_cluster

from cluster.health import until_serving
from cluster.ports import HOST, SERVICES, Service
from fomofeed.gateway.v1 import orchestrator_service_pb2 as pb
from tests.fuzz.broken_http2 import BEHAVIOURS
from tests.fuzz.calling import Report, fuzz
from tests.fuzz.observing import resident_bytes, until_idle

MIB = 1 << 20
LOOK_AT_PICTURES = ("clip", "moderation", "gateway")


@pytest.fixture(scope="module")
def own_cluster(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RunningCluster]:
    """A cluster that nobody else asks."""
    with running_cluster(tmp_path_factory.mktemp("fuzzed")) as running:
        yield running


def pid_of(cluster: RunningCluster, service: Service) -> int:
    return cluster.state().servers[service.name].process.pid


async def check_whole(cluster: RunningCluster, before: dict[str, int]) -> None:
    """All servers are the processes that they were, hold no call, and give a whole answer."""
    assert {service.name: pid_of(cluster, service) for service in SERVICES} == before
    for service in SERVICES:
        await until_idle(cluster.ports.metrics_port(service))
    async with cluster.gateway() as stub:
        answer: pb.OrchestrateResponse = await stub.Orchestrate(request(), timeout=10)
    assert answer.confidence > 0
    assert not [d for d in answer.degradations if d.reason in ("UNAVAILABLE", "INVALID_OUTPUT")]


async def fuzz_all(
    cluster: RunningCluster, light: int, heavy: int, seed: int, *, harmless: bool
) -> Report:
    """Fuzzes one server after the other, those that look at pictures with `heavy` requests.

    Fails with the first findings.
    """
    whole = Report()
    for service in SERVICES:
        count = heavy if service.name in LOOK_AT_PICTURES else light
        target = cluster.ports.target(service)
        report = await fuzz(target, [service.rpc_service], count, seed, harmless=harmless)
        whole.codes += report.codes
        whole.findings += report.findings
    assert not whole.findings, "\n".join([f"{len(whole.findings)} findings", *whole.findings[:20]])
    return whole


def pids(cluster: RunningCluster) -> dict[str, int]:
    return {service.name: pid_of(cluster, service) for service in SERVICES}


async def test_every_server_answers_fuzzed_requests_of_all_its_methods(
    cluster: RunningCluster,
) -> None:
    before = pids(cluster)
    report = await fuzz_all(cluster, 120, 36, seed=1, harmless=True)
    assert report.codes["OK"] > 80
    assert report.codes["INVALID_ARGUMENT"] > 80
    await check_whole(cluster, before)


@pytest.mark.prove
async def test_eighty_thousand_fuzzed_requests_leave_the_servers_whole_and_small(
    own_cluster: RunningCluster,
) -> None:
    await fuzz_all(own_cluster, 2_000, 300, seed=2, harmless=False)
    before = pids(own_cluster)
    sizes = {name: resident_bytes(pid) for name, pid in before.items()}
    report = await fuzz_all(own_cluster, 20_000, 1_500, seed=3, harmless=False)
    await check_whole(own_cluster, before)
    grown = {name: (resident_bytes(pid) - sizes[name]) / MIB for name, pid in before.items()}
    print("fuzz:", dict(report.codes), "grown MiB:", {n: round(g, 1) for n, g in grown.items()})
    assert max(grown.values()) < 48, grown


async def misbehave(cluster: RunningCluster, service: Service, rounds: int) -> None:
    chance = random.Random(rounds)
    port = cluster.ports.port(service)
    for _ in range(rounds):
        behaviours = chance.sample(BEHAVIOURS, len(BEHAVIOURS))
        await asyncio.gather(*(behave(HOST, port, chance) for behave in behaviours))


async def test_a_server_survives_broken_connections(cluster: RunningCluster) -> None:
    before = pids(cluster)
    service = next(service for service in SERVICES if service.name == "text")
    await misbehave(cluster, service, rounds=2)
    await until_serving(cluster.ports.target(service))
    await check_whole(cluster, before)


@pytest.mark.prove
async def test_every_server_survives_many_broken_connections_and_stays_small(
    own_cluster: RunningCluster,
) -> None:
    before = pids(own_cluster)
    sizes: dict[str, int] = {}
    for service in SERVICES:
        await misbehave(own_cluster, service, rounds=3)
        sizes[service.name] = resident_bytes(before[service.name])
        await misbehave(own_cluster, service, rounds=20)
    await check_whole(own_cluster, before)
    grown = {name: (resident_bytes(before[name]) - size) / MIB for name, size in sizes.items()}
    print("broken connections, grown MiB:", {n: round(g, 1) for n, g in grown.items()})
    assert max(grown.values()) < 32, grown
