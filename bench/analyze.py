"""How long does a person wait for Analyze? Writes docs/bench/analyze.md.

`python bench/analyze.py` starts a cluster of its own, times it from the command to the first whole
answer, then asks about every demo photo in turn, one caller, with the graph's own deadline of
200 ms. Latency is the caller's; a whole answer is one that is not degraded. `rest` is what of the
gateway's work lies outside the nodes on the critical path, and the way there and back.
"""

import argparse
import asyncio
import os
import platform
import subprocess
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from cluster.ports import GATEWAY, PortPlan
from fomofeed.gateway.v1 import orchestrator_service_pb2 as pb
from fomofeed.gateway.v1 import orchestrator_service_pb2_grpc as pb_grpc
from serving.rpc.channels import open_channel

PHOTOS = Path(".fomofeed/photos")
REPORT = Path("docs/bench/analyze.md")
# The photos come again and again.
NOTHING_REMEMBERED = {"FOMOFEED_GATEWAY_CACHE_BYTES": "0", "FOMOFEED_CLIP_CACHE_BYTES": "0"}
PATIENCE_S = 30.0  # of the first calls, which wait for a cold machine


@dataclass(frozen=True, slots=True)
class Call:
    """One answered call; `latency_s` as its caller saw it."""

    latency_s: float
    response: pb.OrchestrateResponse

    @property
    def rest_s(self) -> float:
        """The part of the latency in which no node of the critical path was running."""
        elapsed = {node.node: node.elapsed_us for node in self.response.explanation.nodes}
        path = self.response.explanation.critical_path
        return self.latency_s - sum(elapsed[node] for node in path) / 1e6


@contextmanager
def cluster(port_base: int) -> Iterator[None]:
    """Runs a cluster with stores of its own, by the command that a person would use."""
    with tempfile.TemporaryDirectory() as folder:
        stores = {
            f"FOMOFEED_{name}_DATABASE": f"{folder}/{name.lower()}.sqlite"
            for name in ("PROFILE", "TIMING")
        }
        environment = {**os.environ, "FOMOFEED_RUN_DIR": folder, **stores, **NOTHING_REMEMBERED}
        command = [sys.executable, "-m", "cluster"]
        up = [*command, "up", "--detach", "--port-base", str(port_base)]
        subprocess.run(up, env=environment, check=True, stdout=subprocess.DEVNULL)
        try:
            yield
        finally:
            down = [*command, "down"]
            subprocess.run(down, env=environment, check=True, stdout=subprocess.DEVNULL)


def posts(moderate: bool) -> list[pb.OrchestrateRequest]:
    """One request for each demo photo."""
    paths = sorted(path for path in PHOTOS.glob("*") if path.suffix in (".jpg", ".png"))
    if not paths:
        raise SystemExit(f"no photos in {PHOTOS}: `make photos` gets them")
    return [
        pb.OrchestrateRequest(
            user_id=12, media=path.read_bytes(), moderate=moderate, explain=True, tags=["demo"]
        )
        for path in paths
    ]


async def ask(
    target: str, requests: Sequence[pb.OrchestrateRequest], timeout_s: float | None
) -> list[Call]:
    """Sends the requests one after the other."""
    calls = []
    async with open_channel(target, health_service=None) as channel:
        stub = pb_grpc.OrchestratorServiceStub(channel)
        await channel.channel_ready()
        for request in requests:
            began = time.perf_counter()
            response = await stub.Orchestrate(request, timeout=timeout_s)
            calls.append(Call(time.perf_counter() - began, response))
    return calls


def measure(port_base: int, rounds: int, moderate: bool) -> tuple[float, list[Call]]:
    """Returns the cold start in s and the calls of all rounds."""
    target = PortPlan.moved(port_base).target(GATEWAY)
    requests = posts(moderate)
    began = time.perf_counter()
    with cluster(port_base):
        while asyncio.run(ask(target, requests[:1], PATIENCE_S))[0].response.degraded:
            pass
        cold_start_s = time.perf_counter() - began
        asyncio.run(ask(target, requests, PATIENCE_S))  # one round whose figures nobody sees
        return cold_start_s, asyncio.run(ask(target, requests * rounds, None))


def row(name: str, seconds: Sequence[float]) -> str:
    """A row of the table: median, 95th and 99th percentile in ms."""
    cells = (f"{value * 1000:.1f}" for value in np.percentile(seconds, (50, 95, 99)))
    return f"| {name} | {' | '.join(cells)} |"


def nodes(calls: Sequence[Call]) -> Iterator[str]:
    """A row for each node, as the gateway saw it."""
    for index, node in enumerate(calls[0].response.nodes):
        yield row(node.node, [call.response.nodes[index].elapsed_us / 1e6 for call in calls])


def machine() -> str:
    """Processor, cores and Python, as a reader needs them to compare."""
    lines = Path("/proc/cpuinfo").read_text().splitlines()
    model = next((line.split(":")[1].strip() for line in lines if "model name" in line), "CPU")
    return f"{len(os.sched_getaffinity(0))} cores of {model}, Python {platform.python_version()}"


def report(cold_start_s: float, calls: Sequence[Call], rounds: int) -> str:
    """The whole report as Markdown."""
    whole = sum(not call.response.degraded for call in calls) / len(calls)
    git = ("git", "describe", "--always", "--dirty")
    commit = subprocess.run(git, capture_output=True, text=True, check=True).stdout.strip()
    load = os.getloadavg()[0]
    lines = [
        "# Analyze over the demo photos",
        "",
        f"{machine()}; {time.strftime('%Y-%m-%d')}, commit {commit}; load average {load:.1f}.",
        f"One caller, {len(calls)} calls ({rounds} rounds), deadline 200 ms, moderation asked for.",
        "",
        f"- whole answers: {whole:.1%}{_missing(calls)}",
        f"- cluster cold start to the first whole answer: {cold_start_s:.1f} s",
        "",
        "| ms | p50 | p95 | p99 |",
        "| --- | --- | --- | --- |",
        row("**Analyze**", [call.latency_s for call in calls]),
        *nodes(calls),
        row("rest", [call.rest_s for call in calls]),
    ]
    return "\n".join(lines) + "\n"


def _missing(calls: Sequence[Call]) -> str:
    """What the others lacked and why, the most frequent first; nothing when all were whole."""
    lost = Counter(f"{d.node} {d.reason}" for call in calls for d in call.response.degradations)
    return "".join(f"; {count} × {what}" for what, count in lost.most_common())


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rounds", type=int, default=20, help="over all demo photos")
    parser.add_argument("--port-base", type=int, default=24000)
    parser.add_argument("--out", type=Path, default=REPORT)
    arguments = parser.parse_args()
    cold_start_s, calls = measure(arguments.port_base, arguments.rounds, moderate=True)
    text = report(cold_start_s, calls, arguments.rounds)
    arguments.out.parent.mkdir(parents=True, exist_ok=True)
    arguments.out.write_text(text)
    print(text)


if __name__ == "__main__":
    main()
