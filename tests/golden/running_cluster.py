"""A real cluster on free ports, started and stopped by the command line."""

import json
import os
import signal
import socket
import subprocess
import sys
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import grpc

from cluster.health import until_serving
from cluster.ports import GATEWAY, SERVICES, PortPlan, Service
from cluster.procfs import ProcessId
from cluster.state import ClusterState, read_state
from fomofeed.gateway.v1 import orchestrator_service_pb2 as pb
from fomofeed.gateway.v1 import orchestrator_service_pb2_grpc as pb_grpc
from serving.rpc.channels import open_channel

Stub = Any  # OrchestratorServiceAsyncStub, which exists for type checkers only

ROOT = Path(__file__).resolve().parents[2]
BIN = Path(sys.executable).parent
PHOTOS = ROOT / ".fomofeed/photos"
BASES = range(20_000, 32_000, 200)  # below the ports that the kernel gives to clients
ENOUGH_S = 10.0  # for one answer on a machine that does other things too


def service_named(name: str) -> Service:
    return next(service for service in SERVICES if service.name == name)


@dataclass(frozen=True, slots=True)
class RunningCluster:
    """One running cluster: its ports, its folder, and the environment that names both."""

    ports: PortPlan
    folder: Path
    environment: dict[str, str]

    def command(self, *arguments: str, timeout_s: float = 120) -> subprocess.CompletedProcess[str]:
        """Runs `fomofeed` as a person would."""
        return subprocess.run(
            [BIN / "fomofeed", *arguments],
            env=self.environment,
            capture_output=True,
            text=True,
            timeout=timeout_s,
            check=False,
        )

    def grpcurl(self, service: Service, *arguments: str, body: str = "") -> str:
        """Runs grpcurl against one server; its output. Knows no proto file."""
        options = ["-plaintext", "-max-time", "30", *(["-d", "@"] if body else [])]
        done = subprocess.run(
            [BIN / "grpcurl", *options, self.ports.target(service), *arguments],
            input=body,
            capture_output=True,
            text=True,
            timeout=60,
            check=False,
        )
        assert done.returncode == 0, done.stderr
        return done.stdout

    def status(self) -> dict[str, dict[str, Any]]:
        """What `fomofeed status --json` says, by server."""
        servers = json.loads(self.command("status", "--json").stdout)
        return {server["name"]: server for server in servers}

    def state(self) -> ClusterState:
        state = read_state(self.folder)
        assert state is not None
        return state

    @asynccontextmanager
    async def gateway(self) -> AsyncIterator[Stub]:
        target = self.ports.target(GATEWAY)
        async with open_channel(target, health_service=None) as channel:
            await channel.channel_ready()
            yield pb_grpc.OrchestratorServiceStub(channel)

    @contextmanager
    def without(self, service: Service) -> Iterator[None]:
        """Kills a server; its supervisor is held still, so that it stays dead for the block."""
        state = self.state()
        victim = state.servers[service.name].process
        state.supervisor.send(signal.SIGSTOP)
        try:
            assert victim.send(signal.SIGKILL)
            assert victim.wait(10)
            yield
        finally:
            state.supervisor.send(signal.SIGCONT)

    async def until_serving(self, service: Service) -> None:
        await until_serving(self.ports.target(service))


def free_ports() -> PortPlan:
    """The first plan whose ports can all be bound now."""
    return next(plan for plan in map(PortPlan.moved, BASES) if _is_free(plan))


def _is_free(plan: PortPlan) -> bool:
    ports = [port(service) for service in SERVICES for port in (plan.port, plan.metrics_port)]
    return all(_can_bind(port) for port in ports)


def _can_bind(port: int) -> bool:
    with socket.socket() as probe:
        try:
            probe.bind(("127.0.0.1", port))
        except OSError:
            return False
    return True


@contextmanager
def running_cluster(folder: Path) -> Iterator[RunningCluster]:
    """Starts a cluster whose stores and logs are in `folder`; stops it at the end."""
    ports = free_ports()
    environment = {
        **os.environ,
        "FOMOFEED_RUN_DIR": str(folder),
        "FOMOFEED_PORT_BASE": str(ports.base),
        "FOMOFEED_PROFILE_DATABASE": str(folder / "profile.sqlite"),
        "FOMOFEED_TIMING_DATABASE": str(folder / "timing.sqlite"),
        "FOMOFEED_GATEWAY_CACHE_BYTES": "0",  # what it remembers would hide a dead server
        "FOMOFEED_CLIP_CACHE_BYTES": "0",
    }
    cluster = RunningCluster(ports, folder, environment)
    started = cluster.command("up", "--detach")
    assert started.returncode == 0, started.stdout + started.stderr
    try:
        yield cluster
    finally:
        stopped = cluster.command("down")
        assert stopped.returncode == 0, stopped.stdout + stopped.stderr


def photo(name: str) -> bytes:
    """A demo photograph by its name in the list, such as `coffee.png`."""
    found = sorted(PHOTOS.glob(f"*-{name}"))
    assert found, f"{name} is not in {PHOTOS}: `make photos` gets it"
    return found[0].read_bytes()


def request(name: str = "coffee.png", **fields: Any) -> pb.OrchestrateRequest:
    """A post of demo user 12 with a demo photograph, unless `fields` say otherwise."""
    post: dict[str, Any] = {
        "user_id": 12,
        "caption": "First cup",
        "tags": ["coffee", "morning"],
        "moderate": True,
    }
    return pb.OrchestrateRequest(**(post | {"media": photo(name)} | fields))


def node_of(response: pb.OrchestrateResponse, name: str) -> pb.NodeReport:
    return next(node for node in response.nodes if node.node == name)


def server_ids(cluster: RunningCluster) -> dict[str, ProcessId]:
    return {name: server.process for name, server in cluster.state().servers.items()}


def status_code(error: grpc.aio.AioRpcError) -> str:
    return error.code().name
