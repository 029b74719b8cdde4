"""What does the gateway itself cost? Writes docs/bench/gateway.md.

`python bench/gateway.py` runs the gateway as a process of its own before models that cost nothing
(`bench/stand_ins/null_models.py`, another process), with 64 callers in a closed loop, no two
requests alike, and reads the gateway's CPU time from the kernel. The parts are measured by leaving
out: the edge is a call that runs no graph (`DescribeGraph`), executor, policies and coalescer run
in this process with nodes that answer at once (`bench/stand_ins/inside.py`), and the wire is what
remains. Overhead is the latency of one caller's Orchestrate less the durations of the nodes on its
critical path.
"""

import argparse
import asyncio
import os
import platform
import re
import subprocess
import tempfile
import time
from collections.abc import (
    AsyncIterator,
    Awaitable,
    Callable,
    Iterable,
    Iterator,
    Mapping,
    Sequence,
)
from contextlib import ExitStack, asynccontextmanager
from dataclasses import dataclass
from itertools import count
from pathlib import Path
from statistics import median, quantiles

import grpc
from grpc_health.v1 import health_pb2, health_pb2_grpc

from bench.stand_ins import inside
from bench.stand_ins.gateway_process import Gateway, gateway, null_services
from bench.stand_ins.inside import MEDIA_BYTES, PATIENCE_S, Parts, post
from fomofeed.gateway.v1 import orchestrator_service_pb2 as pb
from fomofeed.gateway.v1 import orchestrator_service_pb2_grpc as pb_grpc
from services.gateway.__main__ import load_plans
from services.gateway.config import GatewayConfig
from services.gateway.graph import GRAPHS
from serving.rpc.channels import open_channel

REPORT = Path("docs/bench/gateway.md")
CALLERS = 64
_NUMBERS = count()  # of posts: none is asked about twice
ROUNDS = 16  # of which the least disturbed counts; a gain is the median of the rounds' own
ROUNDS_ALONE, CALLS_ALONE = 48, 64  # half a second each: the processor is calm by seconds
ALONE, SHIPPED, ALL = "each call alone", "as shipped", "images too"
BATCHES = f"images too, in batches of {CALLERS}"

READING = (
    "`calls` go over the wire for one Orchestrate, `shared by` is how many requests one call of a",
    "coalesced node carries, `gain` the CPU of `each call alone` over that of the row in the same",
    "round: the median, and where the middle half of the rounds lies.",
    "`as shipped` coalesces five of the six calls. Clip's goes alone: its cost is the model's own,",
    "not the wire's, and a batch goes to one replica. `images too` coalesces it nevertheless.",
    "In the last row one caller sends such requests by BatchOrchestrate: the edge is shared, too.",
    "Callers here have all the time: how long a call waits for company is bounded by a tenth of",
    "what its caller has left, and by the time that the node usually takes.",
    "Sharing can save only wire: edge, executor and policies are each request's own, so is the",
    "call for the picture as shipped. The processor is shared with other machines.",
)


@dataclass(frozen=True, slots=True)
class Cost:
    """Of one variant, for one Orchestrate: CPU of the gateway, and what went over the wire."""

    cpu_us: float
    rate: float  # Orchestrate calls a second
    wire_calls: float
    shared_by: float  # requests in one call of a coalesced node


@asynccontextmanager
async def asking(target: str) -> "AsyncIterator[pb_grpc.OrchestratorServiceAsyncStub]":
    """A stub whose gateway answers whole."""
    async with open_channel(target) as channel:
        stub: pb_grpc.OrchestratorServiceAsyncStub = pb_grpc.OrchestratorServiceStub(channel)
        await channel.channel_ready()
        number = -1_000_000
        while (await stub.Orchestrate(post(-number), timeout=PATIENCE_S)).degraded:
            number += 1
        yield stub


Ask = Callable[["pb_grpc.OrchestratorServiceAsyncStub", int], Awaitable[int]]
"""Asks so many times for each caller; returns how many answers were degraded."""


def apart() -> Ask:
    """Many callers, each with a call of its own for each request."""

    async def ask(stub: "pb_grpc.OrchestratorServiceAsyncStub", times: int) -> int:
        async def caller() -> int:
            answers = [
                await stub.Orchestrate(post(next(_NUMBERS)), timeout=PATIENCE_S)
                for _ in range(times)
            ]
            return sum(answer.degraded for answer in answers)

        return sum(await asyncio.gather(*(caller() for _ in range(CALLERS))))

    return ask


def in_batches() -> Ask:
    """One caller, who sends the requests of all in one `BatchOrchestrate` after the other."""

    async def ask(stub: "pb_grpc.OrchestratorServiceAsyncStub", times: int) -> int:
        degraded = 0
        for _ in range(times):
            requests = [post(next(_NUMBERS)) for _ in range(CALLERS)]
            batch = pb.BatchOrchestrateRequest(requests=requests)
            answer = await stub.BatchOrchestrate(batch, timeout=PATIENCE_S)
            degraded += sum(result.response.degraded for result in answer.results)
        return degraded

    return ask


async def crowd(gateway: Gateway, calls: int, ask: Ask) -> Cost:
    """Measures `calls` requests, after a quarter as many that nobody measures."""
    async with asking(gateway.target) as stub:
        await ask(stub, calls // CALLERS // 4)
        sent, before, began = gateway.wire(), gateway.cpu_s(), time.perf_counter()
        degraded = await ask(stub, calls // CALLERS)
        seconds, used_s = time.perf_counter() - began, gateway.cpu_s() - before
        wire, done = gateway.wire().since(sent), calls // CALLERS * CALLERS
        if degraded:
            print(f"  {degraded} of {calls} answers were degraded")
        shared_by = wire.rows / wire.batches if wire.batches else 1.0
        return Cost(used_s / done * 1e6, done / seconds, wire.calls / done, shared_by)


async def edge_us(gateway: Gateway, calls: int) -> float:
    """CPU of a call that runs no graph, with as many callers."""
    async with asking(gateway.target) as stub:

        async def caller() -> None:
            for _ in range(calls // CALLERS):
                await stub.DescribeGraph(pb.DescribeGraphRequest(), timeout=PATIENCE_S)

        before = gateway.cpu_s()
        await asyncio.gather(*(caller() for _ in range(CALLERS)))
        return (gateway.cpu_s() - before) / (calls // CALLERS * CALLERS) * 1e6


@dataclass(frozen=True, slots=True)
class Alone:
    """Medians of one caller: of his calls, of their part outside the critical path's nodes.

    And of calls that do nothing, of health, made in between.
    """

    latency_s: float
    own_s: float
    empty_s: float


async def overhead_s(target: str, calls: int) -> Alone:
    """Measures one caller."""
    latencies, rests, empty = [], [], []
    async with asking(target) as stub, open_channel(target) as channel:
        health = health_pb2_grpc.HealthStub(channel)
        plan = (await stub.Orchestrate(post(0, explain=True), timeout=PATIENCE_S)).explanation
        after = {node.node: node.after for node in plan.nodes}
        for number in range(calls):
            request = post(number + 1)
            began = time.perf_counter()
            response = await stub.Orchestrate(request, timeout=PATIENCE_S)
            latencies.append(time.perf_counter() - began)
            rests.append(latencies[-1] - path_s(response.nodes, after))
            began = time.perf_counter()
            await health.Check(health_pb2.HealthCheckRequest(), timeout=PATIENCE_S)
            empty.append(time.perf_counter() - began)
    return Alone(median(latencies), median(rests), median(empty))


def path_s(nodes: Iterable[pb.NodeReport], after: Mapping[str, Sequence[str]]) -> float:
    """Returns the time of the longest chain of nodes, each of which waits for the one before."""
    elapsed = {node.node: node.elapsed_us / 1e6 for node in nodes}

    def end_s(name: str) -> float:
        return elapsed[name] + max(map(end_s, after[name]), default=0.0)

    return max(map(end_s, elapsed))


def variants(folder: Path) -> dict[str, Path]:
    """The graph without coalescing, as it is shipped, and with every batch that there is."""
    text = (GRAPHS / "analyze.yaml").read_text()
    images = "/AnalyzeImage\n    batch: BatchAnalyzeImages"
    found = {
        ALONE: re.sub(r"\n    batch: .*", "", text),
        SHIPPED: text,
        ALL: text.replace("/AnalyzeImage", images),
    }
    for name, graph in found.items():
        (folder / name).mkdir()
        (folder / name / "analyze.yaml").write_text(graph)
    return {name: folder / name for name in found}


def measure(calls: int) -> Iterator[str]:
    """Yields the lines of the report."""
    with tempfile.TemporaryDirectory() as folder, null_services() as target:
        graphs = variants(Path(folder))
        with ExitStack() as stack:
            gateways = {
                name: stack.enter_context(gateway(target, path)) for name, path in graphs.items()
            }
            gateways[BATCHES] = gateways[ALL]
            rounds = _rounds(gateways, calls // ROUNDS)
            own = gateways[SHIPPED]
            edge = min(asyncio.run(edge_us(own, calls // ROUNDS)) for _ in range(ROUNDS))
            one = [asyncio.run(overhead_s(own.target, CALLS_ALONE)) for _ in range(ROUNDS_ALONE)]
        parts = {}
        for name, path in graphs.items():
            plan = load_plans(GatewayConfig(graphs=path))["analyze"]
            each = (inside.measure(plan, target, CALLERS, calls // 5) for _ in range(ROUNDS))
            parts[name] = Parts.least([asyncio.run(one) for one in each])
    yield from _table(rounds, edge, parts)
    yield ""
    yield from _alone(one)


def _rounds(gateways: dict[str, Gateway], calls: int) -> dict[str, list[Cost]]:
    """What each cost in each round; in turn, for the machine is busy with other things too."""
    rounds: dict[str, list[Cost]] = {name: [] for name in gateways}
    for _ in range(ROUNDS):
        for name, one in gateways.items():
            ask = in_batches() if name == BATCHES else apart()
            rounds[name].append(asyncio.run(crowd(one, calls, ask)))
            print(f"  {name}: {rounds[name][-1]}", flush=True)
    return rounds


def _alone(rounds: Sequence[Alone]) -> Iterator[str]:
    """Tells of the quarter of the rounds in which nothing took least, and of all."""
    calm = sorted(rounds, key=lambda one: one.empty_s)[: len(rounds) // 4]
    latency_ms, own_ms, empty_ms = (
        median(getattr(one, name) * 1000 for one in calm)
        for name in ("latency_s", "own_s", "empty_s")
    )
    yield f"One caller: p50 {latency_ms:.2f} ms, of which {own_ms:.2f} ms are the gateway's own;"
    yield f"a call that does nothing, the floor of that, takes {empty_ms:.2f} ms: medians of the"
    yield f"{len(calm)} rounds of {len(rounds)} in which such a call took least. In all rounds:"
    yield f"{_range(one.own_s for one in rounds)} ms,"
    yield f"nothing {_range(one.empty_s for one in rounds)}."


def _range(seconds: Iterable[float]) -> str:
    ordered = sorted(1000 * one for one in seconds)
    return f"{ordered[0]:.2f} to {ordered[-1]:.2f}"


def _gain(alone: Sequence[Cost], shared: Sequence[Cost]) -> str:
    """The median of the rounds, and the quarters between which half of them lie."""
    ratios = [one.cpu_us / other.cpu_us for one, other in zip(alone, shared, strict=True)]
    low, middle, high = quantiles(ratios, n=4)
    return f"{middle:.2f} ({low:.2f} to {high:.2f})" if alone is not shared else "1"


def _table(rounds: dict[str, list[Cost]], edge: float, parts: dict[str, Parts]) -> Iterator[str]:
    columns = ("edge", "executor", "policies", "coalescer", "wire", "sum", "gain")
    more = ("calls", "shared by", "Orchestrate/s")
    yield f"| CPU of one Orchestrate, µs | {' | '.join((*columns, *more))} |"
    yield f"| --- {'| --- ' * len(columns + more)}|"
    for name, found in rounds.items():
        cost = min(found, key=lambda cost: cost.cpu_us)
        if name in parts:
            inner = parts[name]
            known = (edge, inner.executor, inner.policies, inner.coalescer if name != ALONE else 0)
            shown = [f"{part:.0f}" for part in (*known, cost.cpu_us - sum(known), cost.cpu_us)]
        else:
            shown = ["", "", "", "", "", f"{cost.cpu_us:.0f}"]
        shown += [_gain(rounds[ALONE], found), f"{cost.wire_calls:.2f}"]
        yield f"| {' | '.join((name, *shown, f'{cost.shared_by:.1f}', f'{cost.rate:.0f}'))} |"


def machine() -> str:
    """Processor, cores and Python, as a reader needs them to compare."""
    lines = Path("/proc/cpuinfo").read_text().splitlines()
    model = next((line.split(":")[1].strip() for line in lines if "model name" in line), "CPU")
    cores = len(os.sched_getaffinity(0))
    return f"{cores} cores of {model}, Python {platform.python_version()}, gRPC {grpc.__version__}"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--calls", type=int, default=8192, help="Orchestrate calls a variant")
    parser.add_argument("--out", type=Path, default=REPORT)
    arguments = parser.parse_args()
    git = ("git", "describe", "--always", "--dirty")
    commit = subprocess.run(git, capture_output=True, text=True, check=True).stdout.strip()
    lines = [
        "# What the gateway itself costs",
        "",
        f"{machine()}; {time.strftime('%Y-%m-%d')}, commit {commit};",
        f"load average at the start {os.getloadavg()[0]:.1f}.",
        f"{CALLERS} callers, {arguments.calls} calls a row, the best of {ROUNDS} rounds;",
        f"null models, {MEDIA_BYTES // 1024} KiB pictures, every request another.",
        "",
        *measure(arguments.calls),
        "",
        *READING,
    ]
    arguments.out.parent.mkdir(parents=True, exist_ok=True)
    arguments.out.write_text("\n".join(lines) + "\n")
    print("\n".join(lines))


if __name__ == "__main__":
    main()
