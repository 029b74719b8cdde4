"""Servers asked in turns, in short slices: what else the machine does hits all alike."""

import asyncio
import statistics
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np

from bench.rivals.models import lengths_of
from bench.rivals.processes import Running
from cluster.load.client import ClosedLoop, closed_loop, fine_loop
from cluster.load.oip import open_inference_target
from cluster.load.targets import Target

WARM_UP_S = 0.3  # of a slice, not counted


@dataclass(slots=True)
class Cell:
    """What the slices of one server at one number of callers showed."""

    rates: list[float] = field(default_factory=list)
    p50_ms: list[float] = field(default_factory=list)
    p99_ms: list[float] = field(default_factory=list)
    cpu_us: list[float] = field(default_factory=list)  # of the server per call
    failed: int = 0

    def add(self, seen: ClosedLoop, cpu_s: float, calls: int) -> None:
        """Adds a slice; `cpu_s` is what the server used for its calls, warm-up and end included."""
        self.failed += seen.failed_count
        self.rates.append(seen.rate)  # 0 when nothing was answered, so that slices stay pairs
        if not seen.latencies.size:
            return
        self.p50_ms.append(float(np.quantile(seen.latencies, 0.5)) * 1e3)
        self.p99_ms.append(float(np.quantile(seen.latencies, 0.99)) * 1e3)
        self.cpu_us.append(cpu_s / max(1, calls) * 1e6)

    @property
    def rate(self) -> float:
        """Rows a second, the median of the slices; 0 when nothing was answered."""
        return statistics.median(self.rates) if self.rates else 0.0


Cells = dict[str, dict[int, Cell]]  # of each server by its name, by callers


def target_of(server: Running, model: str, rows: int = 1) -> Target:
    """Asks `model` of a server for `rows` rows a call, in the lengths of its bench."""
    return open_inference_target(server.address, model, rows, lengths_of(model), seed=1)


def ask(
    server: Running, model: str, callers: int, seconds: float, cell: Cell, rows: int = 1
) -> None:
    """Runs a closed loop of `callers` against a server for some seconds."""
    target, calls = target_of(server, model, rows), 0

    async def run() -> ClosedLoop:
        channel, call = target.open()

        async def counted(index: int, timeout_s: float) -> int:
            nonlocal calls
            calls += 1
            return await call(index, timeout_s)

        async with channel:
            return await closed_loop(counted, callers, seconds, warm_up_s=WARM_UP_S)

    before = server.cpu_s()
    with asyncio.Runner(loop_factory=fine_loop) as runner:
        seen = runner.run(run())
    cell.add(seen, server.cpu_s() - before, calls)


def empty_cells(names: Sequence[str], callers: Sequence[int]) -> Cells:
    """Returns a cell for each."""
    return {name: {number: Cell() for number in callers} for name in names}


def one_round(servers: Mapping[str, Running], model: str, seconds: float, cells: Cells) -> None:
    """Asks each server at each number of callers for `seconds`, the servers in turns."""
    for number in next(iter(cells.values())):
        for name, server in servers.items():
            ask(server, model, number, seconds, cells[name][number])
