"""`fomofeed load` as a person meets it: what it prints, and what it refuses to print."""

import asyncio
import io
import os
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from rich.console import Console

from cluster.arguments import parse
from cluster.errors import CommandError
from cluster.load import report
from cluster.load.client import closed_loop
from cluster.load.command import run
from cluster.load.fleet import Fleet
from cluster.load.measure import Measurement, Plan
from cluster.load.outcomes import OK, Outcomes
from cluster.load.summary import summarize
from cluster.load.targets import Cycle, Target
from tests.load.programmable_server import METHOD, ProgrammableServer, at_once, serving
from tests.load.test_load_figures import outcomes

CALL = ["load", "--call", METHOD.lstrip("/"), "--warm-up", "0"]


def no_gateway() -> str:
    raise AssertionError("nobody asked for the gateway")


def printed(*arguments: str) -> str:
    console = Console(file=io.StringIO(), width=120)
    run(console, parse([*CALL, *arguments]), no_gateway)
    return console.file.getvalue()  # type: ignore[attr-defined]  # a StringIO


def step(rate: float, seen: Outcomes, seconds: float = 1.0) -> Measurement:
    plan = Plan(rate, seconds, 0, 1, 0.5, seed=1)
    return Measurement(plan, summarize(seen, seconds, slo_s=0.5), seen)


def test_a_trace_that_ends_within_the_warm_up_is_refused(tmp_path: Path) -> None:
    trace = tmp_path / "trace"
    trace.write_text("0\n0.5\n1.5\n")
    with pytest.raises(CommandError, match=r"ends after 1\.5 s, within the warm-up of 2 s"):
        printed("--trace", str(trace), "--warm-up", "2")


async def test_a_trace_is_sent_as_it_stands(tmp_path: Path) -> None:
    trace, server = tmp_path / "trace", ProgrammableServer(at_once)
    trace.write_text("10.0\n10.05 # two at once\n10.05\n10.1\n")
    async with serving(server) as address:
        told = await asyncio.to_thread(
            printed, "--address", address, "--trace", str(trace), "--max-lag", "1"
        )
    assert len(server.requests) == 4
    assert "OK 4" in told


async def test_a_late_client_ends_the_repetitions_at_once() -> None:
    server = ProgrammableServer(at_once)
    async with serving(server) as address:
        arguments = ("--rate", "20", "--seconds", "0.3", "--repeat", "9", "--max-lag", "0")
        with pytest.raises(CommandError, match="no figures: the client sent"):
            await asyncio.to_thread(printed, "--address", address, *arguments)
    assert len(server.requests) < 20


def test_quantiles_that_so_few_calls_cannot_tell_are_left_out() -> None:
    def names(calls: int) -> list[str]:
        summary = summarize(outcomes([0.1] * calls, [OK] * calls), seconds=1, slo_s=1)
        return list(summary.latency)

    assert names(1) == ["p50", "max"]
    assert names(50) == ["p50", "p90", "p95", "max"]
    assert names(999) == ["p50", "p90", "p95", "p99", "p99.9", "max"]


@pytest.mark.parametrize(
    ("found", "words"),
    [(30.0, "saturation: 30.0/s (99% within 500 ms)"), (0.0, "saturation: below 30.0/s")],
)
def test_a_search_says_what_it_means_and_when_it_saw_few_calls(found: float, words: str) -> None:
    console = Console(file=io.StringIO(), width=120)
    report.show_search(console, found, [step(30.0, outcomes([0.1] * 30, [OK] * 30))])
    told = console.file.getvalue()  # type: ignore[attr-defined]
    assert words in told
    assert ("--seconds 7 is steadier" in told) == bool(found)


async def busy(number: int, context: Any) -> None:
    """One call at a time, of 10 ms: some 95 a second."""
    await asyncio.sleep(0.01)


@pytest.mark.prove
async def test_the_same_seed_repeats_its_goodput_within_five_percent() -> None:
    plan = ("--rate", "60", "--seconds", "5", "--repeat", "3", "--seed", "3", "--max-lag", "1")
    async with serving(ProgrammableServer(busy)) as address:
        told = await asyncio.to_thread(printed, "--address", address, *plan)
    noise = told.partition("3 runs of the same schedule: goodput ± ")[2]
    assert float(noise.partition("%")[0]) <= 5, told


@pytest.mark.prove
async def test_it_shows_the_queue_that_a_closed_loop_hides() -> None:
    plan = ("--rate", "150", "--seconds", "4", "--slo", "0.2", "--timeout", "9", "--max-lag", "1")
    async with serving(ProgrammableServer(busy)) as address:
        channel, call = Target(address, METHOD, Cycle((b"",))).open()
        async with channel:
            closed = await closed_loop(call, 8, 2.0)
        told = await asyncio.to_thread(printed, "--address", address, *plan)
    assert np.quantile(closed.latencies, 0.9) < 0.2
    good = told.partition("= ")[2]
    assert float(good.partition("%")[0]) < 50, told


class EndsItsReader(Cycle):
    """Ends the process that reads it from a pipe."""

    def __reduce__(self) -> tuple[Any, ...]:
        return os._exit, (1,)


def test_client_processes_that_end_at_once_are_told_of() -> None:
    target = Target("127.0.0.1:1", METHOD, EndsItsReader((b"",)))
    with pytest.raises(CommandError, match="did not start"), Fleet(target, processes=2):
        pass
