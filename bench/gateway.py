"""What does the gateway itself cost? Writes docs/bench/gateway.md.

`python bench/gateway.py` runs the gateway as a process of its own before models that cost nothing
(`bench/stand_ins/null_models.py`, another process), with 64 callers in a closed loop, no two
requests alike, and reads the gateway's CPU time from the kernel. The parts are measured by leaving
out: the edge is a call that runs no graph (`DescribeGraph`), executor and policies run in this
process with nodes that answer at once, and the wire is what remains. Overhead is the latency of one
caller's Orchestrate less the durations of the nodes on its critical path.
"""

import argparse
import asyncio
import os
import platform
import re
import subprocess
import sys
import tempfile
import time
from collections.abc import AsyncIterator, Iterator, Mapping
from contextlib import ExitStack, asynccontextmanager, contextmanager
from dataclasses import dataclass
from pathlib import Path
from statistics import median

import grpc
from google.protobuf.message import Message

from bench.stand_ins import null_models
from fomofeed.gateway.v1 import orchestrator_service_pb2 as pb
from fomofeed.gateway.v1 import orchestrator_service_pb2_grpc as pb_grpc
from services.gateway.__main__ import load_plans
from services.gateway.calling import Policies, open_calls
from services.gateway.channels import open_channels
from services.gateway.config import GatewayConfig
from services.gateway.executor import execute
from services.gateway.graph import GRAPHS
from services.gateway.outcome import Call, Outcome
from services.gateway.plan import Plan
from serving.rpc.channels import open_channel

REPORT = Path("docs/bench/gateway.md")
MEDIA_BYTES = 16 * 1024
CALLERS = 64
ROUNDS = 5  # of which the least disturbed counts
PATIENCE_S = 30.0
ANSWERS: dict[str, Message] = {
    "profile": null_models.PROFILE,
    "clip": null_models.IMAGE,
    "timing": null_models.TIMES,
    "ranker": null_models.SCORE,
    "caption": null_models.CAPTION,
    "notification": null_models.NOTIFICATION,
    "moderation": null_models.VERDICT,
}

READING = (
    "`as shipped` coalesces profile, timing and ranker. Three of the six calls go alone: both of",
    "text, which has no batch methods, and clip's, whose cost is the model's own and whose answer",
    "would wait for the slowest picture of its batch (`images too` coalesces it nevertheless).",
    "Executor and policies were measured alone, in one process; `wire` is the difference, and so",
    "holds the batcher and what 64 callers at once cost beyond one.",
)


@dataclass(frozen=True, slots=True)
class Cost:
    """Of one variant: CPU of the gateway for one Orchestrate, and calls a second."""

    cpu_us: float
    rate: float


@contextmanager
def null_services() -> Iterator[str]:
    """Runs the null models; gives their target."""
    command = [sys.executable, "-m", "bench.stand_ins.null_models"]
    with subprocess.Popen(
        command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    ) as process:
        assert process.stdout is not None
        assert process.stdin is not None
        yield f"127.0.0.1:{process.stdout.readline().strip()}"
        process.stdin.close()


@contextmanager
def gateway(target: str, graphs: Path) -> Iterator[tuple[str, int]]:
    """Runs a gateway before `target`; gives its own target and process id."""
    services = ("PROFILE", "CLIP", "TIMING", "RANKER", "MODERATION", "TEXT")
    settings = {f"FOMOFEED_GATEWAY_{name}": target for name in services}
    settings |= {"FOMOFEED_GATEWAY_GRAPHS": str(graphs), "FOMOFEED_GATEWAY_LAME_DUCK_S": "0"}
    process = subprocess.Popen(
        [sys.executable, "-m", "services.gateway"],
        env=os.environ | settings,
        stderr=subprocess.PIPE,
        text=True,
    )
    assert process.stderr is not None
    try:
        found = re.search(r"listening on (\S+)", "".join(_until(process.stderr, "listening on")))
        assert found is not None
        yield found.group(1), process.pid
    finally:
        process.terminate()
        process.communicate()


def _until(lines: Iterator[str], text: str) -> Iterator[str]:
    for line in lines:
        yield line
        if text in line:
            return


def cpu_s(pid: int) -> float:
    """CPU time that a process has used, user and system, in s."""
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


def post(number: int, explain: bool = False) -> pb.OrchestrateRequest:
    """A request unlike every other."""
    media = number.to_bytes(8, "big") * (MEDIA_BYTES // 8)
    return pb.OrchestrateRequest(
        user_id=number + 1, media=media, caption=f"draft {number}", tags=["a", "b"], explain=explain
    )


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


async def crowd(target: str, pid: int, calls: int) -> Cost:
    """Measures `calls` calls of many callers, after as many that nobody measures."""
    async with asking(target) as stub:
        numbers = iter(range(10**9))

        async def caller(count: int) -> int:
            answers = [
                await stub.Orchestrate(post(next(numbers)), timeout=PATIENCE_S)
                for _ in range(count)
            ]
            return sum(answer.degraded for answer in answers)

        await asyncio.gather(*(caller(calls // CALLERS // 4) for _ in range(CALLERS)))
        before, began = cpu_s(pid), time.perf_counter()
        degraded = await asyncio.gather(*(caller(calls // CALLERS) for _ in range(CALLERS)))
        seconds, used_s = time.perf_counter() - began, cpu_s(pid) - before
        if sum(degraded):
            print(f"  {sum(degraded)} of {calls} answers were degraded")
        done = calls // CALLERS * CALLERS
        return Cost(used_s / done * 1e6, done / seconds)


async def edge_us(target: str, pid: int, calls: int) -> float:
    """CPU of a call that runs no graph, with as many callers."""
    async with asking(target) as stub:

        async def caller() -> None:
            for _ in range(calls // CALLERS):
                await stub.DescribeGraph(pb.DescribeGraphRequest(), timeout=PATIENCE_S)

        before = cpu_s(pid)
        await asyncio.gather(*(caller() for _ in range(CALLERS)))
        return (cpu_s(pid) - before) / calls * 1e6


async def overhead_s(target: str, calls: int) -> tuple[float, float]:
    """Median latency of one caller, and its median part outside the critical path's nodes."""
    latencies, rests = [], []
    async with asking(target) as stub:
        for number in range(calls):
            request = post(number, explain=True)
            began = time.perf_counter()
            response = await stub.Orchestrate(request, timeout=PATIENCE_S)
            latencies.append(time.perf_counter() - began)
            elapsed = {node.node: node.elapsed_us for node in response.explanation.nodes}
            path_us = sum(elapsed[node] for node in response.explanation.critical_path)
            rests.append(latencies[-1] - path_us / 1e6)
    return median(latencies), median(rests)


def at_once(name: str) -> Call:
    """A node that knows its answer."""
    outcome = Outcome(ANSWERS[name])

    async def call(request: Message, deadline: float) -> Outcome:
        return outcome

    return call


async def inside_us(plan: Plan, target: str, calls: int) -> tuple[float, float]:
    """CPU of the executor, and of executor and policies, with nodes that answer at once."""
    alone = {name: at_once(name) for name in plan.nodes}
    executor = await _executions_us(plan, alone, calls)
    services = {node.service for node in plan.nodes.values()}
    config = GatewayConfig(**dict.fromkeys(map(_short, services), target))  # type: ignore[arg-type]
    async with (
        open_channels(config, services) as channels,
        open_calls(
            {"analyze": plan}, channels, Policies(), wire=lambda node: at_once(node.name)
        ) as policies,
    ):
        return executor, await _executions_us(plan, policies["analyze"], calls)


def _short(service: str) -> str:
    return service.split(".")[1]


async def _executions_us(plan: Plan, nodes: Mapping[str, Call], calls: int) -> float:
    selection, loop = plan.select(()), asyncio.get_running_loop()
    before = time.process_time()
    for number in range(calls):
        await execute(plan, selection, nodes, post(number), loop.time() + PATIENCE_S)
    return (time.process_time() - before) / calls * 1e6


def variants(folder: Path) -> dict[str, Path]:
    """The graph without coalescing, as it is shipped, and with every batch that there is."""
    text = (GRAPHS / "analyze.yaml").read_text()
    single = re.sub(r"\n    batch: .*", "", text)
    images = "/AnalyzeImage\n    batch: BatchAnalyzeImages"
    found = {"each call alone": single, "as shipped": text}
    found["images too"] = text.replace("/AnalyzeImage", images)
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
            rounds: dict[str, list[Cost]] = {name: [] for name in graphs}
            for _ in range(ROUNDS):  # in turn, for the machine is busy with other things too
                for name, (own, pid) in gateways.items():
                    rounds[name].append(asyncio.run(crowd(own, pid, calls // ROUNDS)))
                    print(f"  {name}: {rounds[name][-1]}", flush=True)
            costs = {
                name: min(found, key=lambda cost: cost.cpu_us) for name, found in rounds.items()
            }
            own, pid = gateways["as shipped"]
            edge = min(asyncio.run(edge_us(own, pid, calls // ROUNDS)) for _ in range(ROUNDS))
            latency_s, rest_s = asyncio.run(overhead_s(own, calls // 4))
        plan = load_plans(GatewayConfig(graphs=graphs["each call alone"]))["analyze"]
        found = [asyncio.run(inside_us(plan, target, calls // 4)) for _ in range(ROUNDS)]
        executor, inside = (min(column) for column in zip(*found, strict=True))
    yield from _table(costs, edge, executor, inside)
    yield ""
    own = f"of which {rest_s * 1000:.2f} ms are the gateway's own."
    yield f"One caller: p50 {latency_s * 1000:.2f} ms, {own}"


def _table(costs: dict[str, Cost], edge: float, executor: float, inside: float) -> Iterator[str]:
    yield "| CPU of one Orchestrate, µs | edge | executor | policies | wire | sum | calls/s |"
    yield "| --- | --- | --- | --- | --- | --- | --- |"
    for name, cost in costs.items():
        wire = cost.cpu_us - edge - inside
        parts = (edge, executor, inside - executor, wire, cost.cpu_us, cost.rate)
        yield f"| {name} | {' | '.join(f'{part:.0f}' for part in parts)} |"


def machine() -> str:
    """Processor, cores and Python, as a reader needs them to compare."""
    lines = Path("/proc/cpuinfo").read_text().splitlines()
    model = next((line.split(":")[1].strip() for line in lines if "model name" in line), "CPU")
    cores = len(os.sched_getaffinity(0))
    return f"{cores} cores of {model}, Python {platform.python_version()}, gRPC {grpc.__version__}"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--calls", type=int, default=6400, help="Orchestrate calls a variant")
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
