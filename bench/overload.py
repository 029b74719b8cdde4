"""What is left of a server under overload? Writes docs/bench/overload.md and overload.svg.

`python bench/overload.py` finds the peak of our server and of a naive one (the same engine behind
an unbounded queue in order of arrival) with 32 callers, then offers 1, 2, 3 and 5 times the peak,
open loop, Poisson, with 500 ms deadlines. Goodput is answers in time a second over the peak, less
the CPU that refusals and the client were measured to take: peak' = min(peak, (cores - client -
refusals) / CPU of a row). Every step has a fresh server, since a naive one still works off its
queue, and the peak is taken before and after it, since the machine may be busy with other things
too. Late executions are rows whose engine call began after their deadline. Recovery is the time
after a burst (3 times, 4 s) until half a second whose quarters have the median latency from before.
`engine busy` is the share of the time in which an engine call ran, `on a core` the share of that in
which its thread had a core: what lacks there was taken by other programs, and no scheduler gets it
back.
A refusal's time at its caller has the way of its request in it (600 kB for a picture, from a client
on the same cores); `in the server` is from where the call begins there to its refusal; what gRPC's
core refuses for a busy event loop never gets there. Beside the tiny model gRPC's Python client
would need more than the server's cores: it is asked by `bench.rivals.lean`.
"""

import argparse
import asyncio
import math
import os
import statistics
import tempfile
import time
from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from bench.rivals.lean import LeanClient
from bench.rivals.models import IMAGE, MLP, RAGGED, TEXT, write_repository
from bench.rivals.processes import Command, Running, machine, running
from bench.rivals.turns import target_of
from bench.rivals.watched import EngineCall, Watch, read_watch
from cluster.load.arrivals import poisson
from cluster.load.chart import Chart, draw
from cluster.load.client import closed_loop, fine_loop
from cluster.load.fleet import Fleet
from cluster.load.outcomes import LABELS, Outcomes
from cluster.load.summary import Summary, summarize
from cluster.load.targets import Cycle, Target

DEADLINE_S = 0.5
TIMES = (1, 2, 3, 5)
KINDS = ("ours", "naive")
CALLERS = 32
BURST = (4.0, 4.0, 6.0)  # seconds at half the peak, at three times, at half
REPORT, PLOT = Path("docs/bench/overload.md"), Path("docs/bench/overload.svg")
_REFUSED = LABELS.index("RESOURCE_EXHAUSTED")
_WARM_UP_S = 1.0
_PEAK_WARM_UP_S = 0.5
_MOMENT_S = 0.25  # long enough for the median of a dozen pictures
_MACHINE_S = 0.01  # by so much the machine alone delays calls for a moment
_TINY_BYTES = 500  # a longer request is for a model beside which a client costs little


@dataclass(frozen=True, slots=True)
class Peak:
    """What a server does when it is always asked and never refuses."""

    rate: float  # rows a second
    cpu_s: float  # of the server, per row


@dataclass(frozen=True, slots=True)
class Step:
    """One overload of one server. Rates are rows a second."""

    times: float
    peak: float  # the mean of before and after
    corrected_peak: float
    summary: Summary
    busy: float  # share of the time in which an engine call ran
    own_cpu: float  # share of that time in which its thread had a core: the rest was taken from it
    refused_s: float | None  # 99 of 100 refused calls were in the server for so long at most

    @property
    def goodput(self) -> float:
        return self.summary.goodput / self.corrected_peak


@dataclass(frozen=True, slots=True)
class Result:
    """All that was seen of one server with one model."""

    kind: str
    steps: list[Step]
    recovery_s: float
    refusal_us: float  # CPU of the server per call, the engine aside
    memory_mb: tuple[float, float]  # after the first step, and at most
    executed: int = 0
    late: int = 0


class GrpcClient(Fleet):
    """The client processes of `fomofeed load`, and callers who wait for their answers."""

    def rate(self, callers: int, seconds: float, warm_up_s: float = 0.5) -> float:
        """Returns how many answers a second they get."""

        async def run() -> float:
            channel, call = self.target.open()
            async with channel:
                return (await closed_loop(call, callers, seconds, warm_up_s=warm_up_s)).rate

        with asyncio.Runner(loop_factory=fine_loop) as runner:
            return runner.run(run())


Client = GrpcClient | LeanClient


def peak(server: Running, client: Client, seconds: float) -> Peak:
    """Measures throughput and CPU with callers that wait for their answers."""
    cpu = server.cpu_s()
    rate = client.rate(CALLERS, seconds, warm_up_s=_PEAK_WARM_UP_S)
    return Peak(rate, (server.cpu_s() - cpu) / (rate * (seconds + _PEAK_WARM_UP_S)))


def refusal_cpu(server: Running, client: Client, row: Peak, seconds: float) -> float:
    """CPU seconds of a refused call, at most: all but the engine's thread, per call at 3 times.

    The engine's is the busiest thread that is not the event loop's.
    """
    offsets = poisson(3 * row.rate, seconds, seed=5)
    before = server.cpu_by_thread()
    client.measure(offsets, DEADLINE_S)
    spent = {tid: cpu - before.get(tid, 0.0) for tid, cpu in server.cpu_by_thread().items()}
    engine = max(cpu for tid, cpu in spent.items() if tid != server.pid)
    return (sum(spent.values()) - engine) / max(1, len(offsets))


def overload(bench: "Bench", times: float, seconds: float, refusal_s: float) -> Step:
    """Offers a multiple of the peak for some seconds."""
    with bench.server() as (server, client):
        before = peak(server, client, seconds / 2)
        offsets = poisson(times * before.rate, _WARM_UP_S + seconds, seed=round(times * 10))
        outcomes, cores = client.measure(offsets, DEADLINE_S)
        end = time.monotonic() - DEADLINE_S
    with bench.server() as (server, client):
        after = peak(server, client, seconds / 2)
    measured = outcomes.since(_WARM_UP_S)
    summary = summarize(
        measured, seconds, slo_s=DEADLINE_S, client_cpu=cores, processes=client.processes
    )
    rate, row_s = (before.rate + after.rate) / 2, (before.cpu_s + after.cpu_s) / 2
    refusing = float((measured.status == _REFUSED).sum()) / seconds * refusal_s
    left = max(0.1, (os.cpu_count() or 1) - cores - refusing)
    watch = bench.watch
    calls = [call for call in watch.calls if end - seconds <= call.begin and call.end <= end]
    refusals = [lasted for at, lasted in watch.refusals if end - seconds <= at <= end]
    refused_s = float(np.quantile(refusals, 0.99)) if refusals else None
    use = engine_use(calls, seconds)
    return Step(times, rate, min(rate, left / row_s), summary, *use, refused_s)


def engine_use(calls: list[EngineCall], seconds: float) -> tuple[float, float]:
    """Returns the shares of `Step`."""
    ran = sum(call.end - call.begin for call in calls)
    return ran / seconds, sum(call.cpu_s for call in calls) / ran if ran else 0.0


def recovery(client: Client, rate: float) -> float:
    """Seconds after a burst until the median latency is as before it; endless if it never is."""
    calm, burst, after = BURST
    length = calm + burst + after
    offsets = poisson(3 * rate, length, seed=9)
    in_burst = (offsets >= calm) & (offsets < calm + burst)
    kept = np.random.default_rng(9).random(len(offsets)) < 1 / 6
    outcomes, _ = client.measure(offsets[in_burst | kept], DEADLINE_S)
    normal = medians(outcomes, 1.0, calm).max()
    bound = max(1.5 * normal, normal + _MACHINE_S)
    is_normal = medians(outcomes, calm + burst, length) <= bound
    begins = np.flatnonzero(is_normal[:-1] & is_normal[1:])
    return float(begins[0] * _MOMENT_S) if begins.size else math.inf


def medians(outcomes: Outcomes, begin: float, end: float) -> NDArray[np.float64]:
    """Returns the median latency of each moment in between; no answer counts as endless."""
    latency = np.where(outcomes.is_ok, outcomes.latency, np.inf)
    moments = np.arange(begin, end, _MOMENT_S)
    inside = [(at <= outcomes.intended) & (outcomes.intended < at + _MOMENT_S) for at in moments]
    return np.array([np.median(latency[among]) for among in inside if among.any()])


@dataclass(slots=True)
class Bench:
    """Starts fresh servers of one kind, and adds up what they counted."""

    kind: str
    file: Path
    model: str
    rows: int
    watch: Watch = field(default_factory=Watch)  # of all its servers
    memory_mb: list[float] = field(default_factory=list)

    @contextmanager
    def server(self) -> Iterator[tuple[Running, Client]]:
        """Runs one server, and a client with connections to it."""
        with tempfile.TemporaryDirectory() as folder:
            written = Path(folder) / "calls"
            facts = ["--name", self.model, "--kind", self.kind, "--calls", str(written)]
            arguments = [str(self.file), *facts, "--rows", str(self.rows)]
            with (
                running(Command("bench.rivals.watched", arguments), self.model) as server,
                client_of(target_of(server, self.model)) as client,
            ):
                yield server, client
                self.memory_mb.append(server.memory_mb())
            watch = read_watch(written)
            self.watch.calls += watch.calls
            self.watch.refusals += watch.refusals


def client_of(target: Target) -> AbstractContextManager[Client]:
    """Returns the client whose own work does not decide what is measured."""
    payloads = target.payloads
    if isinstance(payloads, Cycle) and max(map(len, payloads.requests)) <= _TINY_BYTES:
        return LeanClient.open(target.address, target.method, payloads.requests)
    return GrpcClient(target, processes=2)


def examine(bench: Bench, seconds: float) -> Result:
    """Runs every experiment on one kind of server."""
    with bench.server() as (server, client):
        row = peak(server, client, seconds)
        refusal_s = refusal_cpu(server, client, row, seconds / 2)
    calm_mb = bench.memory_mb[0]
    steps = [overload(bench, times, seconds, refusal_s) for times in TIMES]
    with bench.server() as (_, client):
        recovered = recovery(client, statistics.median(step.peak for step in steps))
    memory = (calm_mb, max(bench.memory_mb))
    executed = sum(call.rows for call in bench.watch.calls)
    late = sum(call.late_rows for call in bench.watch.calls)
    return Result(bench.kind, steps, recovered, refusal_s * 1e6, memory, executed, late)


def tables(model: str, results: list[Result]) -> list[str]:
    """Returns the lines of one model."""
    headings = (
        *("server", "× peak", "peak/s", "good/s", "goodput", "p50 ms", "p99 ms", "refused p99 ms"),
        *("in the server", "client late p99 ms", "engine busy", "on a core"),
    )
    lines = [f"## {model}", "", f"| {' | '.join(headings)} |", "| --- " * len(headings) + "|"]
    for result in results:
        for step in result.steps:
            s = step.summary
            answered = (s.latency.get("p50"), s.latency.get("p99"))
            times = (*answered, s.refusal.get("p99"), step.refused_s, s.lag_p99_s)
            cells = " | ".join("–" if t is None else f"{t * 1e3:.1f}" for t in times)
            lines.append(
                f"| {result.kind} | {step.times:g} | {step.peak:,.0f} | {s.goodput:,.0f} "
                f"| {step.goodput:.2f} | {cells} | {step.busy:.2f} | {step.own_cpu:.2f} |"
            )
    lines.append("")
    return [*lines, *(in_words(result) for result in results), ""]


def in_words(result: Result) -> str:
    """Says what a row of figures cannot."""
    again = f"{result.recovery_s:.2f} s after" if result.recovery_s < BURST[2] else "not soon after"
    return (
        f"- {result.kind}: {result.late:,} of {result.executed:,} rows begun too late; normal "
        f"again {again} a burst; a call costs at most "
        f"{result.refusal_us:.0f} µs of CPU beside the engine; memory {result.memory_mb[0]:.0f} MB "
        f"after the first step, {result.memory_mb[1]:.0f} MB at most"
    )


def chart(model: str, results: list[Result]) -> Chart:
    """Draws goodput over the offered load."""
    curves = {
        result.kind: [(step.times, step.goodput) for step in result.steps] for result in results
    }
    return Chart(f"Goodput under overload: {model}", "× peak", "of the peak", curves)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--seconds", type=float, default=8.0, help="of each step")
    parser.add_argument("--models", nargs="+", default=[IMAGE, TEXT, RAGGED, MLP])
    options = parser.parse_args()
    lines = ["# Overload", "", f"{machine()}; steps of {options.seconds:g} s.", ""]
    charts = []
    with tempfile.TemporaryDirectory() as folder:
        files = write_repository(Path(folder), options.models)
        for model in options.models:
            rows = 4 if model == IMAGE else 32
            benches = [Bench(kind, files[model], model, rows) for kind in KINDS]
            results = [examine(bench, options.seconds) for bench in benches]
            lines += tables(model, results)
            charts.append(chart(model, results))
            print("\n".join(lines), flush=True)
    REPORT.parent.mkdir(parents=True, exist_ok=True)
    REPORT.write_text("\n".join(lines), encoding="utf-8")
    PLOT.write_text(draw(charts), encoding="utf-8")


if __name__ == "__main__":
    main()
