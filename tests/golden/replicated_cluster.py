"""Two replicas of every server as processes, on ports + 100 for the second, and their restarts."""

import asyncio
import os
import signal
import sys
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path

from running_cluster import ROOT, free_ports

from cluster.health import until_serving
from cluster.ports import GATEWAY, HOST, PortPlan, Service

REPLICAS = 2
LAME_DUCK_S = 2.0
START_S = 60.0  # until SERVING, on a machine that is under load


@dataclass
class ServerProcess:
    """One replica. It has a new name after each start, which its ledgers tell."""

    service: Service
    number: int
    ports: PortPlan
    folder: Path
    environment: dict[str, str] = field(default_factory=dict)
    starts: int = 0
    process: asyncio.subprocess.Process | None = None

    @property
    def name(self) -> str:
        return f"{self.service.name}-{self.number}.{self.starts}"

    @property
    def target(self) -> str:
        return f"{HOST}:{self.ports.port(self.service) + 100 * self.number}"

    async def start(self) -> None:
        """Returns when it says SERVING."""
        self.starts += 1
        prefix = f"FOMOFEED_{self.service.name.upper()}_"
        own = {
            "PORT": self.ports.port(self.service) + 100 * self.number,
            "METRICS_PORT": self.ports.metrics_port(self.service) + 100 * self.number,
            "LAME_DUCK_S": LAME_DUCK_S,
            "REPLICA": self.name,
        }
        variables = {prefix + key: str(value) for key, value in own.items()} | self.environment
        with (self.folder / f"{self.service.name}-{self.number}.log").open("ab") as log:
            self.process = await asyncio.create_subprocess_exec(
                *(sys.executable, "-m", self.service.module),
                cwd=ROOT,
                env=os.environ | variables,
                stderr=log,
            )
        serving = asyncio.ensure_future(until_serving(self.target))
        ended = asyncio.ensure_future(self.process.wait())
        await asyncio.wait({serving, ended}, timeout=START_S, return_when=asyncio.FIRST_COMPLETED)
        assert serving.done(), f"{self.name} does not serve, see its log"
        ended.cancel()

    async def end(self) -> int:
        """Asks it to end, as Kubernetes does; returns its exit code."""
        if self.process is None:
            return 0
        process, self.process = self.process, None
        if process.returncode is None:
            process.send_signal(signal.SIGTERM)
        return await process.wait()


@dataclass(frozen=True)
class ReplicatedCluster:
    """All servers; `gateways` call the `models` round robin."""

    models: Sequence[ServerProcess]
    gateways: Sequence[ServerProcess]

    @property
    def target(self) -> str:
        """What a client of the gateways dials."""
        return _together(self.gateways)


@asynccontextmanager
async def replicated_cluster(
    folder: Path, services: Sequence[Service]
) -> AsyncIterator[ReplicatedCluster]:
    """Starts two replicas of each of `services` and of the gateway."""
    ports = free_ports()
    models = [_model(service, n, ports, folder) for service in services for n in range(REPLICAS)]
    targets = {
        f"FOMOFEED_GATEWAY_{service.name.upper()}": _together(
            [one for one in models if one.service is service]
        )
        for service in services
    }
    gateways = [ServerProcess(GATEWAY, n, ports, folder, targets) for n in range(REPLICAS)]
    everybody = [*models, *gateways]
    try:
        await asyncio.gather(*(one.start() for one in models))
        await asyncio.gather(*(one.start() for one in gateways))
        yield ReplicatedCluster(models, gateways)
    finally:
        await asyncio.gather(*(one.end() for one in reversed(everybody)))


def _model(service: Service, number: int, ports: PortPlan, folder: Path) -> ServerProcess:
    """A store of its own for those that have one."""
    environment = {}
    if service.name in ("profile", "timing"):
        store = folder / f"{service.name}-{number}.sqlite"
        environment[f"FOMOFEED_{service.name.upper()}_DATABASE"] = str(store)
    return ServerProcess(service, number, ports, folder, environment)


def _together(replicas: Sequence[ServerProcess]) -> str:
    return "ipv4:" + ",".join(one.target for one in replicas)
