"""What is left of the whole graph under overload? Writes docs/bench/gateway_overload.md and .svg.

`python bench/gateway_overload.py` puts our gateway, and one that only knows `asyncio.gather`
(`stand_ins/naive_gateway.py`), before models that sleep behind the real serving runtime
(`stand_ins/sleeping_models.py`): clip takes 100 ms for a picture, the others have room, so that
no processor saturates. The peak is what 8 callers get whole in a closed loop. Then 1, 2, 3 and 5
times the peak are offered, open loop, Poisson, with a second for each. Good is a whole answer in
time: a degraded one is better than none, but does not count. CPU is left over, so nothing is taken
off the
peak for refusals. The leaves count rows that began after their deadline, and rows executed for
callers who had gone. Then a mix of classes at twice the peak, and a clip that becomes four times
slower (50 ms, then 200) under a load that it could just bear before.
"""

import argparse
import asyncio
import json
import os
import subprocess
import sys
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

import grpc
import numpy as np
from numpy.typing import NDArray

from bench.gateway import machine
from bench.stand_ins.gateway_process import gateway
from cluster.load.arrivals import poisson
from cluster.load.chart import Chart, draw
from cluster.load.client import Call, OpenLoop, closed_loop, fine_loop
from cluster.load.outcomes import OK, Outcomes
from cluster.load.targets import ORCHESTRATE, Target, is_degraded
from fomofeed.gateway.v1 import orchestrator_service_pb2 as pb
from services.gateway.graph import GRAPHS
from serving.request import CRITICALITY_KEY, Criticality

DEADLINE_S = 1.0
TIMES = (1, 2, 3, 5)
KINDS = ("ours", "naive")
CALLERS = 8
CLIP_S, CLIP_ROWS = 0.100, 1
QUICK_CLIP_S = 0.050  # before it becomes slower; after that a deadline still holds several calls
STEP = 4  # times slower
MIX = {Criticality.CRITICAL: 0.2, Criticality.DEFAULT: 0.5, Criticality.SHEDDABLE: 0.3}
REPORT, PLOT = Path("docs/bench/gateway_overload.md"), Path("docs/bench/gateway_overload.svg")
_WARM_UP_S = 2.0
_AGAIN = 0.9  # of its new peak: a slower clip is absorbed


@dataclass(frozen=True, slots=True)
class Posts:
    """Posts that nobody has asked about before."""

    nonce: int

    def __call__(self, index: int) -> bytes:
        number = self.nonce * 1_000_000 + index
        media = number.to_bytes(8, "big") * 64
        return pb.OrchestrateRequest(
            user_id=number + 1, media=media, caption=f"draft {number}"
        ).SerializeToString()


@dataclass(slots=True)
class Bench:
    """One gateway before the sleeping models; `counts` of the leaves once they have ended."""

    kind: str
    target: str
    models: "subprocess.Popen[str]"
    counts: Mapping[str, Mapping[str, int]] = field(default_factory=dict)
    _runs: int = 0

    def peak(self, seconds: float) -> float:
        """Whole answers a second with callers who wait for them."""

        async def run() -> float:
            channel, call = self._target().open()
            async with channel:
                return (await closed_loop(call, CALLERS, seconds, warm_up_s=_WARM_UP_S)).rate

        with asyncio.Runner(loop_factory=fine_loop) as runner:
            return runner.run(run())

    def offer(self, offsets: NDArray[np.float64], criticality: str = "default") -> Outcomes:
        """Makes calls by a schedule."""
        with asyncio.Runner(loop_factory=fine_loop) as runner:
            return runner.run(self.offering({criticality: offsets}))[criticality]

    async def offering(self, schedules: Mapping[str, NDArray[np.float64]]) -> dict[str, Outcomes]:
        """Makes the calls of several classes at once, each by its schedule."""
        async with grpc.aio.insecure_channel(self.target) as channel:
            await channel.channel_ready()
            start = asyncio.get_running_loop().time() + 0.1
            runs = [
                OpenLoop(_asking(channel, name, self._posts()), offsets, DEADLINE_S).run(start)
                for name, offsets in schedules.items()
            ]
            return dict(zip(schedules, await asyncio.gather(*runs), strict=True))

    def slow_down(self) -> None:
        """Makes clip slower from now on."""
        assert self.models.stdin is not None
        self.models.stdin.write(f"clip={QUICK_CLIP_S * STEP}x{CLIP_ROWS}\n")
        self.models.stdin.flush()

    def _posts(self) -> Posts:
        self._runs += 1
        return Posts(time.time_ns() // 10**9 % 10**6 * 100 + self._runs)

    def _target(self) -> Target:
        return Target(self.target, ORCHESTRATE, self._posts(), is_degraded)


def _asking(channel: grpc.aio.Channel, criticality: str, posts: Posts) -> Call:
    ask: grpc.aio.UnaryUnaryMultiCallable[bytes, bytes] = channel.unary_unary(ORCHESTRATE)
    metadata = ((CRITICALITY_KEY, criticality),)

    async def call(index: int, timeout_s: float) -> int:
        try:
            return is_degraded(await ask(posts(index), timeout=timeout_s, metadata=metadata))
        except grpc.aio.AioRpcError as error:
            return int(error.code().value[0])

    return call


@contextmanager
def running(kind: str, clip_s: float = CLIP_S) -> Iterator[Bench]:
    """Runs fresh models and a fresh gateway."""
    models = _start("sleeping_models", f"clip={clip_s}x{CLIP_ROWS}")
    assert models.stdout is not None
    target = _target_of(models)
    bench = Bench(kind, "", models)
    try:
        if kind == "ours":
            with gateway(target, GRAPHS) as own:
                bench.target = own.target
                yield bench
        else:
            naive = _start("naive_gateway", target)
            bench.target = _target_of(naive)
            yield bench
            naive.communicate()
    finally:
        told, _ = models.communicate()
        bench.counts = json.loads(told)


def _start(module: str, argument: str) -> "subprocess.Popen[str]":
    command = [sys.executable, "-m", f"bench.stand_ins.{module}", argument]
    pipe = subprocess.PIPE
    return subprocess.Popen(command, stdin=pipe, stdout=pipe, stderr=subprocess.DEVNULL, text=True)


def _target_of(process: "subprocess.Popen[str]") -> str:
    assert process.stdout is not None
    return f"127.0.0.1:{process.stdout.readline().strip()}"


@dataclass(frozen=True, slots=True)
class Step:
    """One overload of one gateway."""

    times: float
    peak: float
    good: float  # whole answers in time a second
    answered: float  # answers of any kind in time a second
    p99_s: float  # of whole answers
    lag_s: float  # of the client, p99
    late: int
    executed: int
    for_nobody: int

    @property
    def goodput(self) -> float:
        return self.good / self.peak


def overload(kind: str, times: float, seconds: float) -> Step:
    """Offers a multiple of the peak of a fresh gateway for some seconds."""
    with running(kind) as bench:
        peak = bench.peak(seconds / 2)
        offsets = poisson(times * peak, _WARM_UP_S + seconds, seed=round(times * 10))
        found = bench.offer(offsets).since(_WARM_UP_S)
    sums = {
        name: sum(leaf[name] for leaf in bench.counts.values()) for name in bench.counts["clip"]
    }
    whole = is_good(found)
    return Step(
        times,
        peak,
        float(whole.sum()) / seconds,
        float((found.is_ok & (found.latency <= DEADLINE_S)).sum()) / seconds,
        float(np.quantile(found.latency[whole], 0.99)) if whole.any() else float("nan"),
        float(np.quantile(found.lag, 0.99)),
        **sums,
    )


def is_good(found: Outcomes) -> NDArray[np.bool_]:
    """Which calls were answered whole and in time."""
    good: NDArray[np.bool_] = (found.status == OK) & (found.latency <= DEADLINE_S)
    return good


def classes(seconds: float) -> dict[str, tuple[int, int]]:
    """At twice the peak, by class: whole answers in time, and calls."""
    with running("ours") as bench:
        peak = bench.peak(seconds / 2)
        schedules = {
            one.name.lower(): poisson(2 * peak * share, _WARM_UP_S + seconds, seed=one)
            for one, share in MIX.items()
        }
        with asyncio.Runner(loop_factory=fine_loop) as runner:
            found = runner.run(bench.offering(schedules))
    measured = {name: one.since(_WARM_UP_S) for name, one in found.items()}
    return {name: (int(is_good(one).sum()), len(one)) for name, one in measured.items()}


def slower(kind: str, seconds: float) -> tuple[float, list[float]]:
    """When a slower clip does its new most again, and whole answers by second since the change."""
    with running(kind, QUICK_CLIP_S) as bench:
        peak = CLIP_ROWS / QUICK_CLIP_S
        calm = 5.0
        offsets = poisson(peak, calm + seconds, seed=3)

        async def run() -> Outcomes:
            asyncio.get_running_loop().call_later(calm, bench.slow_down)
            return (await bench.offering({"default": offsets}))["default"]

        with asyncio.Runner(loop_factory=fine_loop) as runner:
            found = runner.run(run())
    ended = found.ended[is_good(found)] - calm
    by_second = [float(((ended >= at) & (ended < at + 1)).sum()) for at in range(int(seconds))]
    lowest = _AGAIN * CLIP_ROWS / (QUICK_CLIP_S * STEP)
    smooth = [np.mean(by_second[at : at + 3]) for at in range(len(by_second) - 2)]
    again = [at for at in range(len(smooth)) if min(smooth[at:]) >= lowest]
    return (float(again[0]) if again else float("inf")), by_second


def report(seconds: float) -> Iterator[str]:
    """Yields the lines of the report, and writes the plot."""
    results = {kind: [overload(kind, times, seconds) for times in TIMES] for kind in KINDS}
    columns = ["gateway", "× peak", "peak/s", "whole/s", "goodput", "answered/s", "p99 ms"]
    columns += ["begun late", "for nobody", "client late p99 ms"]
    yield f"| {' | '.join(columns)} |"
    yield "| --- " * len(columns) + "|"
    for kind, steps in results.items():
        for s in steps:
            figures = (f"{s.times:g}", f"{s.peak:.1f}", f"{s.good:.1f}", f"{s.goodput:.2f}")
            wasted = f"{s.for_nobody / max(1, s.executed):.2%}"
            rest = (f"{s.answered:.1f}", f"{s.p99_s * 1e3:.0f}", f"{s.late} of {s.executed:,}")
            yield f"| {' | '.join((kind, *figures, *rest, wasted, f'{s.lag_s * 1e3:.1f}'))} |"
    yield ""
    shares = (
        f"{name} {good / of:.2%} of {of}" for name, (good, of) in classes(12 * seconds).items()
    )
    yield f"Whole and in time at twice the peak, by class: {', '.join(shares)}."
    yield ""
    curves: dict[str, list[tuple[float, float]]] = {}
    for kind in KINDS:
        again, by_second = slower(kind, max(12.0, seconds))
        curves[kind] = [(at + 0.5, rate) for at, rate in enumerate(by_second)]
        when = f"after {again:.0f} s" if again < float("inf") else "not within the run"
        yield f"- clip {STEP} times slower, {kind}: {_AGAIN:.0%} of its new most again {when}."
    draw_plot(results, curves)


def draw_plot(
    results: Mapping[str, list[Step]], curves: Mapping[str, list[tuple[float, float]]]
) -> None:
    """Draws goodput over the load, and the recovery over time."""
    lines = {kind: [(s.times, s.goodput) for s in steps] for kind, steps in results.items()}
    charts = [
        Chart("Whole answers in time under overload", "× peak", "of the peak", lines),
        Chart(f"After clip became {STEP} times slower", "seconds", "whole answers/s", curves),
    ]
    PLOT.write_text(draw(charts), encoding="utf-8")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--seconds", type=float, default=8.0, help="of each step")
    seconds: float = parser.parse_args().seconds
    git = ("git", "describe", "--always", "--dirty")
    commit = subprocess.run(git, capture_output=True, text=True, check=True).stdout.strip()
    lines = [
        "# The whole graph under overload",
        "",
        f"{machine()}; {time.strftime('%Y-%m-%d')}, commit {commit}; load average at the start",
        f"{os.getloadavg()[0]:.1f}; steps of {seconds:g} s; clip sleeps {CLIP_S * 1e3:g} ms for",
        f"{CLIP_ROWS} at once, so {CLIP_ROWS / CLIP_S:.1f} a second is the most that can be whole.",
        "",
        *report(seconds),
        "",
        "![Goodput and recovery](gateway_overload.svg)",
    ]
    REPORT.write_text("\n".join(lines) + "\n", encoding="utf-8")
    print("\n".join(lines))


if __name__ == "__main__":
    main()
