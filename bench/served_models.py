"""How much of the engine reaches the caller, and where is the rest? Writes docs/bench/served.md.

`python bench/served_models.py` asks, one row a request and 1 to 64 callers without pause: our
server, a bare one that parses and answers the same messages with the same engine inline, and our
model in the process of its callers, without a server.
Offline is the engine's best loop in a process of its own while an open-loop client sends the rate
that our server reached to a null server on the same cores. Servers are asked in turns, in short
slices, so that what else the machine does hits all alike; a cell is the median of the slices, the
noise half their range over its middle. The last table cuts our server off below each part: CPU of
the server process per call, all its threads.
"""

import argparse
import asyncio
import statistics
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Sequence
from contextlib import ExitStack
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np

from bench.rivals import ladder
from bench.rivals.models import IMAGE, MLP, NOOP, write_repository
from bench.rivals.processes import Running, machine, running
from cluster.load.arrivals import constant
from cluster.load.client import ClosedLoop, closed_loop, fine_loop
from cluster.load.fleet import Fleet
from cluster.load.oip import open_inference_target
from cluster.load.outcomes import OK
from cluster.load.summary import spread
from serving.engines.onnx import OnnxEngine
from serving.models.model import Model
from serving.models.warm_up import guessed_shapes, zeros
from serving.scheduling.scheduler import BatchingConfig

CALLERS = (1, 8, 32, 64)
REPORT = Path("docs/bench/served.md")
CLIENT_TIMEOUT_S = 10.0


@dataclass(slots=True)
class Cell:
    """What rounds of one server at one number of callers showed."""

    rates: list[float] = field(default_factory=list)
    p50_ms: list[float] = field(default_factory=list)
    p99_ms: list[float] = field(default_factory=list)
    cpu_us: list[float] = field(default_factory=list)  # of the server per call
    failed: int = 0

    def add(self, seen: ClosedLoop, cpu_us: float) -> None:
        self.failed += seen.failed_count
        if not seen.latencies.size:
            return
        self.rates.append(seen.rate)
        self.p50_ms.append(float(np.quantile(seen.latencies, 0.5)) * 1e3)
        self.p99_ms.append(float(np.quantile(seen.latencies, 0.99)) * 1e3)
        self.cpu_us.append(cpu_us)

    @property
    def rate(self) -> float:
        return statistics.median(self.rates)


def ask(server: Running, model: str, callers: int, seconds: float, cell: Cell) -> None:
    """Runs a closed loop of `callers` against a server for some seconds."""
    target = open_inference_target(server.address, model, rows=1, length=32, seed=1)

    async def run() -> ClosedLoop:
        channel, call = target.open()
        async with channel:
            return await closed_loop(call, callers, seconds, warm_up_s=0.3)

    cpu = server.cpu_s()
    with asyncio.Runner(loop_factory=fine_loop) as runner:
        seen = runner.run(run())
    calls = max(1.0, seen.rate * (seconds + 0.3))
    cell.add(seen, (server.cpu_s() - cpu) / calls * 1e6)


def in_process(file: Path, model: str, seconds: float, cells: dict[int, Cell]) -> None:
    """Asks the same model without a server, from the same event loop."""

    async def run(callers: int) -> ClosedLoop:
        async with Model(model, [OnnxEngine(file)], BatchingConfig()) as served:
            inputs = zeros(served.inputs, guessed_shapes(served.inputs), 1)

            async def call(index: int, timeout_s: float) -> int:
                await served.infer(inputs)
                return OK

            return await closed_loop(call, callers, seconds, warm_up_s=0.3)

    for callers, cell in cells.items():
        cpu = time.process_time()
        seen = asyncio.run(run(callers))
        calls = max(1.0, seen.rate * (seconds + 0.3))
        cell.add(seen, (time.process_time() - cpu) / calls * 1e6)


def offline(file: Path, model: str, rate: float, seconds: float) -> float:
    """Returns the engine's rows a second while a client sends `rate` to a null server."""
    with running(
        "bench.rivals.bare", [str(file), "--name", model, "--mode", "null"], model
    ) as null:
        target = open_inference_target(null.address, model, rows=1, length=32, seed=1)
        with Fleet(target) as fleet:
            load = constant(rate, seconds + 1.0)
            sending = threading.Thread(target=fleet.measure, args=(load, CLIENT_TIMEOUT_S))
            sending.start()
            command = [sys.executable, "-m", "bench.rivals.offline", str(file)]
            output = subprocess.check_output([*command, "--seconds", str(seconds)])
            sending.join()
    return float(output)


Command = tuple[str, list[str]]  # a module, and its arguments


def in_turns(
    commands: dict[str, Command], model: str, callers: Sequence[int], seconds: float, rounds: int
) -> dict[str, dict[int, Cell]]:
    """Asks each server at each number of callers, `rounds` times for `seconds` in turns."""
    cells = {name: {number: Cell() for number in callers} for name in commands}
    with ExitStack() as stack:
        servers = {
            name: stack.enter_context(running(*command, model))
            for name, command in commands.items()
        }
        for _ in range(rounds):
            for number in callers:
                for name, server in servers.items():
                    ask(server, model, number, seconds, cells[name][number])
    return cells


def table(model: str, cells: dict[str, dict[int, Cell]], offline_rate: float) -> list[str]:
    """Returns the lines of one model's table."""
    headings = (
        "callers",
        "server",
        "rows/s",
        "÷ offline",
        "÷ bare",
        "p50 ms",
        "p99 ms",
        "CPU µs/call",
    )
    lines = [
        f"## {model}: {offline_rate:,.0f} rows/s offline",
        "",
        f"| {' | '.join(headings)} | noise |",
        "| --- " * (len(headings) + 1) + "|",
    ]
    for callers in CALLERS:
        for name, by_callers in cells.items():
            cell = by_callers[callers]
            ratio = cell.rate / cells["bare"][callers].rate
            lines.append(
                f"| {callers} | {name} | {cell.rate:,.0f} | {cell.rate / offline_rate:.2f} "
                f"| {ratio:.2f} | {statistics.median(cell.p50_ms):.2f} "
                f"| {statistics.median(cell.p99_ms):.2f} | {statistics.median(cell.cpu_us):.0f} "
                f"| ± {spread(cell.rates):.0%} |"
                + (f" {cell.failed} failed" if cell.failed else "")
            )
    return [*lines, ""]


def parts(file: Path, model: str, callers: int, seconds: float, rounds: int) -> list[str]:
    """Returns the table of CPU per call by part, by cutting our server off below each."""

    def bare(mode: str) -> Command:
        return "bench.rivals.bare", [str(file), "--name", model, "--mode", mode]

    commands = {"gRPC core, aio": bare("null")}
    for step in ladder.STEPS:
        arguments = [str(file), "--name", model, "--step", step]
        commands[step] = ("bench.rivals.ladder", arguments)
    commands |= {"bare: parse, answer": bare("parse"), "bare: engine inline": bare("inline")}
    cells = in_turns(commands, model, [callers], seconds, rounds)
    lines = [
        f"## CPU per call by part: {model}, {callers} callers",
        "",
        "| with | calls/s | CPU µs/call | adds µs | noise µs |",
        "| --- | --- | --- | --- | --- |",
    ]
    before = 0.0
    for part, by_callers in cells.items():
        cell = by_callers[callers]
        cpu = statistics.median(cell.cpu_us)
        added = "" if part.startswith("bare") else f"{cpu - before:+.0f}"
        noise = (max(cell.cpu_us) - min(cell.cpu_us)) / 2
        lines.append(f"| {part} | {cell.rate:,.0f} | {cpu:.0f} | {added} | ± {noise:.0f} |")
        before = cpu
    return [*lines, ""]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--seconds", type=float, default=1.0, help="of each slice")
    parser.add_argument("--rounds", type=int, default=7, help="slices of each cell")
    parser.add_argument("--models", nargs="+", default=[IMAGE, MLP, NOOP])
    parser.add_argument("--parts-only", action="store_true")
    options = parser.parse_args()
    seconds, rounds = options.seconds, options.rounds
    lines = ["# Served models", "", f"{machine()}, {rounds} rounds of {seconds:g} s.", ""]
    with tempfile.TemporaryDirectory() as folder:
        repository = Path(folder)
        files = write_repository(repository)
        for model in [] if options.parts_only else options.models:
            file = files[model]
            commands: dict[str, Command] = {
                "ours": ("serving.oip", ["--model-repository", folder, "--metrics-port", "0"]),
                "bare": (
                    "bench.rivals.bare",
                    [str(file), "--name", model, "--mode", "inline"],
                ),
            }
            cells = in_turns(commands, model, CALLERS, seconds, rounds)
            cells["in process"] = {callers: Cell() for callers in CALLERS}
            for _ in range(rounds):
                in_process(file, model, seconds, cells["in process"])
            best = max(cell.rate for cell in cells["ours"].values())
            lines += table(model, cells, offline(file, model, best, seconds))
        if NOOP in options.models:
            lines += parts(files[NOOP], NOOP, 32, seconds, rounds)
    print("\n".join(lines))
    if not options.parts_only:
        REPORT.parent.mkdir(parents=True, exist_ok=True)
        REPORT.write_text("\n".join(lines), encoding="utf-8")


if __name__ == "__main__":
    main()
