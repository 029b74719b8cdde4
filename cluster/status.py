"""`fomofeed status`: every server's health, process, queue and latency in one table."""

import asyncio
import json
from dataclasses import asdict, dataclass
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

from rich.console import Console
from rich.table import Table
from rich.text import Text

from cluster.health import ask_all
from cluster.metrics import Figures, read_figures
from cluster.ports import SERVICES, PortPlan
from cluster.state import ClusterState, read_state

_STYLES = {"SERVING": "green", "NOT_SERVING": "yellow"}


@dataclass(frozen=True, slots=True)
class ServerStatus:
    """What is known about one server now."""

    name: str
    target: str
    metrics_port: int
    health: str  # SERVING, NOT_SERVING, no answer
    pid: int | None  # none when this command did not start it
    restarts: int
    figures: Figures | None


async def read_status(ports: PortPlan, state: ClusterState | None) -> list[ServerStatus]:
    """Asks all servers at once, in the order of the table."""
    health, pages = await asyncio.gather(
        ask_all([ports.target(service) for service in SERVICES]),
        asyncio.gather(*(read_figures(ports.metrics_port(service)) for service in SERVICES)),
    )
    known = state.servers if state else {}
    return [
        ServerStatus(
            name=service.name,
            target=ports.target(service),
            metrics_port=ports.metrics_port(service),
            health=health[index],
            pid=known[service.name].process.pid if service.name in known else None,
            restarts=known[service.name].restarts if service.name in known else 0,
            figures=pages[index],
        )
        for index, service in enumerate(SERVICES)
    ]


def show_status(console: Console, ports: PortPlan, folder: Path, as_json: bool) -> bool:
    """Prints the table; says whether every server serves."""
    state = read_state(folder)
    servers = asyncio.run(read_status(ports, state))
    if as_json:
        print(json.dumps([asdict(server) for server in servers], indent=1))
    else:
        console.print(f"fomofeed {project_version()}, {_supervised(state)}")
        console.print(_table(servers))
    return all(server.health == "SERVING" for server in servers)


def project_version() -> str:
    try:
        return version("fomofeed")
    except PackageNotFoundError:
        return "not installed"


def _supervised(state: ClusterState | None) -> str:
    if state is not None and state.is_running():
        return f"supervisor {state.supervisor.pid}"
    return "no supervisor runs here"


def _table(servers: list[ServerStatus]) -> Table:
    table = Table(box=None)
    for heading in ("server", "health", "address"):
        table.add_column(heading, no_wrap=True)
    for heading in ("process", "restarts", "calls", "waiting", "p50", "p95"):
        table.add_column(heading, justify="right")
    table.add_column("models")
    for server in servers:
        figures = server.figures
        table.add_row(
            server.name,
            Text(server.health, style=_STYLES.get(server.health, "red")),
            server.target,
            str(server.pid or "–"),
            str(server.restarts),
            str(figures.call_count) if figures else "–",
            str(figures.waiting_rows) if figures else "–",
            _latency(figures.p50_s if figures else None),
            _latency(figures.p95_s if figures else None),
            ", ".join(figures.models) if figures else "–",
        )
    return table


def _latency(seconds: float | None) -> str:
    return "–" if seconds is None else f"≤ {seconds * 1000:g} ms"
