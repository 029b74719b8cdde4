"""Can a replica that is always slow be hidden? Writes docs/bench/slow_replica.md.

`python bench/slow_replica.py` puts the gateway with the whole graph before three processes that
serve every model (`stand_ins/sleeping_models.py`): an engine call of clip sleeps 50 ms for all
pictures that wait, on one of the three several times as long, always. Posts come open loop,
Poisson, no two alike. Each case has processes of its own: replicas that tell their speed or do not
(the gateway then goes round robin), clip's calls hedged or not (in a graph that does not call the
node idempotent). Extra work is what the replicas executed of clip beyond one picture a post. In the
end the slow replica becomes as fast as the others under the same load.
"""

import argparse
import asyncio
import json
import math
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from bench.gateway import machine
from bench.gateway_overload import Posts
from bench.stand_ins.gateway_process import gateway
from cluster.load.arrivals import poisson
from cluster.load.client import OpenLoop, fine_loop
from cluster.load.outcomes import OK, Outcomes
from cluster.load.targets import ORCHESTRATE, Target, is_degraded
from services.gateway.graph import GRAPHS

CLIP_S, CLIP_ROWS = 0.050, 64
RATE = 40.0  # posts a second
DEADLINE_S = 4.0
TELL_AFTER_S = 1.0  # not 10, as servers do: these are not cold
SETTLE_S = 6.0  # weights and hedging learn
FAIR, LOOK_S, PATIENCE_S = 0.25, 5.0, 120.0  # a third, nearly: the replica has its share again
REPORT = Path("docs/bench/slow_replica.md")
_HEDGED = "    retry: hot\n    idempotent: true\n    cache_s: 600\n"  # clip is the first with all


@dataclass(frozen=True, slots=True)
class Case:
    """How calls are spread over three replicas of which the last is `times` slower."""

    times: float
    is_weighted: bool
    is_hedged: bool

    def __str__(self) -> str:
        spread = "by speed" if self.is_weighted else "in turn"
        return f"{self.times:g} | {spread}, {'hedged' if self.is_hedged else 'not hedged'}"


CASES = (
    Case(10, is_weighted=False, is_hedged=False),
    Case(10, is_weighted=False, is_hedged=True),
    Case(10, is_weighted=True, is_hedged=True),
    Case(4, is_weighted=False, is_hedged=False),
    Case(4, is_weighted=True, is_hedged=True),
)
MENDED = CASES[2]


class Replicas:
    """Three processes; the last is the slow one."""

    def __init__(self, processes: Sequence["subprocess.Popen[str]"]) -> None:
        self._processes = processes
        self.target = "ipv4:" + ",".join(f"127.0.0.1:{_line(one)}" for one in processes)

    def executed(self) -> NDArray[np.int64]:
        """How many pictures each has executed so far, hedged ones too."""
        for process in self._processes:
            _tell(process, "")
        return np.array([json.loads(_line(one))["clip"]["executed"] for one in self._processes])

    def mend(self) -> None:
        """Makes the slow one as fast as the others."""
        _tell(self._processes[-1], f"clip={CLIP_S}x{CLIP_ROWS}")


def _line(process: "subprocess.Popen[str]") -> str:
    assert process.stdout is not None
    return process.stdout.readline().strip()


def _tell(process: "subprocess.Popen[str]", text: str) -> None:
    assert process.stdin is not None
    process.stdin.write(f"{text}\n")
    process.stdin.flush()


@contextmanager
def replicas(case: Case) -> Iterator[Replicas]:
    """Runs the three; they end with their input."""
    after_s = TELL_AFTER_S if case.is_weighted else math.inf
    module = [sys.executable, "-m", "bench.stand_ins.sleeping_models", f"--report-after={after_s}"]
    pipe = subprocess.PIPE
    with ExitStack() as stack:
        processes = [
            stack.enter_context(
                subprocess.Popen(
                    [*module, f"clip={seconds}x{CLIP_ROWS}"], stdin=pipe, stdout=pipe, text=True
                )
            )
            for seconds in (CLIP_S, CLIP_S, CLIP_S * case.times)
        ]
        for process in processes:
            stack.callback(process.communicate)
        yield Replicas(processes)


@contextmanager
def running(case: Case) -> Iterator[tuple[Replicas, str]]:
    """Runs fresh replicas and a fresh gateway; gives its target."""
    with ExitStack() as stack:
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory()))
        text = (GRAPHS / "analyze.yaml").read_text(encoding="utf-8")
        assert _HEDGED in text
        graph = text if case.is_hedged else text.replace(_HEDGED, "", 1)
        (folder / "analyze.yaml").write_text(graph, encoding="utf-8")
        three = stack.enter_context(replicas(case))
        yield three, stack.enter_context(gateway(three.target, folder)).target


@dataclass(slots=True)
class Load:
    """Sends posts to one gateway."""

    three: Replicas
    target: str
    _runs: int = 0

    async def send(self, seconds: float) -> tuple[Outcomes, NDArray[np.int64]]:
        """Returns what became of the posts, and the pictures that each replica executed."""
        self._runs += 1
        posts = Posts(time.time_ns() // 10**9 % 10**6 * 100 + self._runs)
        channel, call = Target(self.target, ORCHESTRATE, posts, is_degraded).open()
        async with channel:
            before = await asyncio.to_thread(self.three.executed)
            load = OpenLoop(call, poisson(RATE, seconds, seed=self._runs), DEADLINE_S)
            outcomes = await load.run(asyncio.get_running_loop().time())
            return outcomes, await asyncio.to_thread(self.three.executed) - before

    async def until_fair(self) -> float:
        """Mends the slow replica; returns the seconds until it has its share of the calls."""
        self.three.mend()
        began = time.monotonic()
        while (passed_s := time.monotonic() - began) < PATIENCE_S:
            _, executed = await self.send(LOOK_S)
            if executed[-1] >= FAIR * executed.sum():
                return passed_s
        return math.inf


@dataclass(frozen=True, slots=True)
class Seen:
    """What one case came to."""

    outcomes: Outcomes
    executed: NDArray[np.int64]  # pictures, by replica
    fair_after_s: float | None  # once the slow one is fast

    def quantile_ms(self, share: float) -> float:
        return float(np.quantile(self.outcomes.latency, share)) * 1e3

    def row(self, case: Case, before: "Seen") -> str:
        """Its line of the table; `before` is in turn and not hedged."""
        p50, p95, p99 = (self.quantile_ms(share) for share in (0.5, 0.95, 0.99))
        pictures = int(self.executed.sum())
        figures = (
            f"{self.executed[-1] / pictures:.1%}",
            f"{pictures / len(self.outcomes) - 1:+.1%}",
            *(f"{one:.0f}" for one in (p50, p95, p99)),
            f"{before.quantile_ms(0.99) / p99:.1f}",
            f"{int((self.outcomes.status != OK).sum())} of {len(self.outcomes)}",
        )
        return f"| {case} | {' | '.join(figures)} |"


def measured(case: Case, seconds: float, is_mended: bool) -> Seen:
    """Measures a case."""

    async def run(load: Load) -> Seen:
        await load.send(SETTLE_S)
        outcomes, executed = await load.send(seconds)
        return Seen(outcomes, executed, await load.until_fair() if is_mended else None)

    with running(case) as (three, target), asyncio.Runner(loop_factory=fine_loop) as runner:
        return runner.run(run(Load(three, target)))


def report(seconds: float) -> Iterator[str]:
    """Yields the lines of the report."""
    columns = (
        "× slower",
        "calls go",
        "to the slow one",
        "extra work",
        "p50 ms",
        "p95 ms",
        "p99 ms",
    )
    columns += ("p99 falls ×", "not whole")
    yield f"| {' | '.join(columns)} |"
    yield "| --- " * len(columns) + "|"
    before: dict[float, Seen] = {}
    fair_after_s = None
    for case in CASES:
        seen = measured(case, seconds, is_mended=case == MENDED)
        yield seen.row(case, before.setdefault(case.times, seen))
        fair_after_s = fair_after_s or seen.fair_after_s
    yield ""
    yield f"As fast as the others, the slow one has at least {FAIR:.0%} of the calls"
    yield f"after {fair_after_s:.0f} s (looked at every {LOOK_S:g} s)."


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--seconds", type=float, default=12.0, help="of each case")
    seconds: float = parser.parse_args().seconds
    git = ("git", "describe", "--always", "--dirty")
    commit = subprocess.run(git, capture_output=True, text=True, check=True).stdout.strip()
    lines = [
        "# One slow replica of three",
        "",
        f"{machine()}; {time.strftime('%Y-%m-%d')}, commit {commit}; load average at the start",
        f"{os.getloadavg()[0]:.1f}; {RATE:g} posts a second for {seconds:g} s each; an engine",
        f"call of clip sleeps {CLIP_S * 1e3:g} ms; `p99 falls` from that in turn, not hedged.",
        "",
        *report(seconds),
    ]
    REPORT.write_text("\n".join(lines) + "\n", encoding="utf-8")
    print("\n".join(lines))


if __name__ == "__main__":
    main()
