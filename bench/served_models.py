"""How much of the engine reaches the caller, and where is the rest? Writes docs/bench/served.md.

`python bench/served_models.py` asks, one row a request and 1 to 64 callers without pause: our
server, a bare one that parses and answers the same messages with the same engine inline, and our
model in the process of its callers, without a server and opened anew for each slice, so that its
first large batches are in it. Text comes in lengths of 8 to 64 tokens.
Offline is the engine's best loop over the same lengths in a process of its own, while an open-loop
client sends the rate that our server has just reached to a null server on the same cores. All are
asked in turns, in short slices, so that what else the machine does hits all alike; a cell is the
median of the slices, a ratio the median of the rounds' own, which a machine that is slower for a
minute leaves as it is; the noise is half the range of the slices over its middle. The last table
cuts our server off below each part: CPU of the server process per call, all its threads.
"""

import argparse
import asyncio
import statistics
import tempfile
import time
from collections.abc import Sequence
from contextlib import AbstractContextManager, ExitStack
from functools import partial
from pathlib import Path

from bench.rivals import ladder
from bench.rivals.beside import beside_load
from bench.rivals.models import (
    IMAGE,
    MLP,
    NOOP,
    RAGGED,
    TEXT,
    Arrays,
    engine_of,
    lengths_of,
    padding_of,
    rows_of,
    write_repository,
)
from bench.rivals.null import null_server
from bench.rivals.offline import offline
from bench.rivals.processes import Command, Running, machine, running
from bench.rivals.turns import WARM_UP_S, Cell, Cells, empty_cells, one_round, target_of
from cluster.load.client import ClosedLoop, closed_loop
from cluster.load.fleet import Fleet
from cluster.load.oip import mixed
from cluster.load.outcomes import OK
from cluster.load.summary import spread
from inference import grpc_service_pb2 as pb
from serving.engines.ragged import RaggedEngine
from serving.models.model import Model
from serving.models.ragged import RaggedModel
from serving.models.shaped import ShapedModel
from serving.scheduling.scheduler import BatchingConfig

CALLERS = (1, 8, 32, 64)
REPORT = Path("docs/bench/served.md")
_METADATA = "/inference.GRPCInferenceService/ModelMetadata"
_LOAD_LONGER_S = 2.0  # than the offline loop is asked for: it ends with whole passes


def model_of(model: str, file: Path) -> Model:
    """Returns the model as our server makes it."""
    engine = engine_of(model, file)
    if isinstance(engine, RaggedEngine):
        limits = BatchingConfig(max_batch_cost=engine.ragged.max_elements)
        return RaggedModel(model, [engine], limits)
    return ShapedModel(model, [engine], BatchingConfig(), padding=padding_of(model))


def in_process(file: Path, model: str, seconds: float, cells: dict[int, Cell]) -> None:
    """Asks the same model without a server, from the same event loop."""

    calls = 0

    async def run(callers: int) -> ClosedLoop:
        async with model_of(model, file) as served:
            lengths = mixed(lengths_of(model), seed=1)
            inputs: list[Arrays] = [rows_of(served.inputs, length, 1) for length in lengths]

            async def call(index: int, timeout_s: float) -> int:
                nonlocal calls
                calls += 1
                await served.infer(inputs[index % len(inputs)])
                return OK

            return await closed_loop(call, callers, seconds, warm_up_s=WARM_UP_S)

    for callers, cell in cells.items():
        calls, cpu = 0, time.process_time()
        seen = asyncio.run(run(callers))
        cell.add(seen, time.process_time() - cpu, calls)


def bare(file: Path, model: str, mode: str) -> Command:
    """The bare server in one of its modes."""
    return Command("bench.rivals.bare", [str(file), "--name", model, "--mode", mode])


def null_of(server: Running, model: str) -> AbstractContextManager[Running]:
    """A server that answers what another one did, without looking: gRPC itself."""
    asked = pb.ModelMetadataRequest(name=model).SerializeToString()
    target = target_of(server, model)
    return null_server(server.address, {_METADATA: asked, target.method: target.payloads(0)})


def measure(folder: str, file: Path, model: str, seconds: float, rounds: int) -> list[str]:
    """Measures one model; returns the lines of its table."""
    arguments = ["--model-repository", folder, "--metrics-port", "0"]
    commands = {"ours": Command("serving.oip", arguments), "bare": bare(file, model, "inline")}
    cells, rates = empty_cells([*commands, "in process"], CALLERS), []
    asked = {name: cells[name] for name in commands}
    with ExitStack() as stack:
        servers: dict[str, Running] = {
            name: stack.enter_context(running(command, model)) for name, command in commands.items()
        }
        null = stack.enter_context(null_of(servers["bare"], model))
        fleet = stack.enter_context(Fleet(target_of(null, model)))
        loop = stack.enter_context(offline(file, model))
        for _ in range(rounds):
            one_round(servers, model, seconds, asked)
            in_process(file, model, seconds, cells["in process"])
            best = max(cell.rates[-1] for cell in cells["ours"].values())
            alone = partial(loop.rate, seconds)
            rates.append(beside_load(fleet, best, seconds + _LOAD_LONGER_S, alone))
    return table(model, cells, rates)


def paired(rates: Sequence[float], others: Sequence[float]) -> float:
    """Returns the median ratio of the rounds, each to the other's of the same round."""
    return statistics.median(rate / other for rate, other in zip(rates, others, strict=True))


def table(model: str, cells: Cells, offline_rates: list[float]) -> list[str]:
    """Returns the lines of one model's table."""
    offline_rate = statistics.median(offline_rates)
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
        f"## {model}: {offline_rate:,.0f} rows/s offline (± {spread(offline_rates):.0%})",
        "",
        f"| {' | '.join(headings)} | noise |",
        "| --- " * (len(headings) + 1) + "|",
    ]
    for callers in CALLERS:
        for name, by_callers in cells.items():
            cell = by_callers[callers]
            to_offline = paired(cell.rates, offline_rates)
            to_bare = paired(cell.rates, cells["bare"][callers].rates)
            lines.append(
                f"| {callers} | {name} | {cell.rate:,.0f} | {to_offline:.2f} "
                f"| {to_bare:.2f} | {statistics.median(cell.p50_ms):.2f} "
                f"| {statistics.median(cell.p99_ms):.2f} | {statistics.median(cell.cpu_us):.0f} "
                f"| ± {spread(cell.rates):.0%} |"
                + (f" {cell.failed} failed" if cell.failed else "")
            )
    return [*lines, ""]


def parts(file: Path, model: str, callers: int, seconds: float, rounds: int) -> list[str]:
    """Returns the table of CPU per call by part, by cutting our server off below each."""

    commands = {}
    for step in ladder.STEPS:
        arguments = [str(file), "--name", model, "--step", step]
        commands[step] = Command("bench.rivals.ladder", arguments)
    commands["bare: parse, answer"] = bare(file, model, "parse")
    commands["bare: engine inline"] = bare(file, model, "inline")
    cells = empty_cells(["gRPC core, aio", *commands], [callers])
    with ExitStack() as stack:
        servers = {
            name: stack.enter_context(running(command, model)) for name, command in commands.items()
        }
        null = stack.enter_context(null_of(servers["bare: engine inline"], model))
        for _ in range(rounds):
            one_round({"gRPC core, aio": null, **servers}, model, seconds, cells)
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
        if part == "queue":  # stands on "oip", beside "engine"
            before = statistics.median(cells["oip"][callers].cpu_us)
        added = "" if part.startswith("bare") else f"{cpu - before:+.0f}"
        noise = (max(cell.cpu_us) - min(cell.cpu_us)) / 2
        lines.append(f"| {part} | {cell.rate:,.0f} | {cpu:.0f} | {added} | ± {noise:.0f} |")
        before = cpu
    return [*lines, ""]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--seconds", type=float, default=1.0, help="of each slice")
    parser.add_argument("--rounds", type=int, default=5, help="slices of each cell")
    parser.add_argument("--models", nargs="+", default=[IMAGE, TEXT, RAGGED, MLP, NOOP])
    parser.add_argument("--parts-only", action="store_true")
    parser.add_argument("--out", type=Path, default=REPORT)
    options = parser.parse_args()
    seconds, rounds = options.seconds, options.rounds
    lines = ["# Served models", "", f"{machine()}, {rounds} rounds of {seconds:g} s.", ""]
    with tempfile.TemporaryDirectory() as folder:
        files = write_repository(Path(folder), options.models)
        for model in [] if options.parts_only else options.models:
            lines += measure(folder, files[model], model, seconds, rounds)
        if NOOP in options.models:
            lines += parts(files[NOOP], NOOP, 32, seconds, rounds)
    print("\n".join(lines))
    if not options.parts_only:
        options.out.write_text("\n".join(lines), encoding="utf-8")


if __name__ == "__main__":
    main()
