"""`fomofeed load`: its arguments, and what it does with them."""

import argparse
import os
from collections.abc import Callable
from pathlib import Path

from rich.console import Console
from rich.progress import BarColumn, Progress, TextColumn, TimeRemainingColumn

from cluster.analyze import read_photo
from cluster.errors import CommandError
from cluster.load import report
from cluster.load.arrivals import ScheduleError, read_trace
from cluster.load.fleet import Fleet
from cluster.load.measure import Measurement, Plan, measure, search
from cluster.load.oip import open_inference_target
from cluster.load.reflection import request_bytes
from cluster.load.saturation import Search
from cluster.load.targets import ORCHESTRATE, Cycle, DistinctPhotos, Target, is_degraded

HELP = "send calls on a schedule and measure what the server makes of it"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declares the command line of `fomofeed load`."""
    parser.add_argument(
        "--address", metavar="HOST:PORT", help="default: the gateway of this cluster"
    )
    what = parser.add_mutually_exclusive_group(required=True)
    what.add_argument(
        "--photo", type=Path, nargs="+", metavar="FILE", help="ask Orchestrate about these photos"
    )
    what.add_argument(
        "--call", metavar="PACKAGE.SERVICE/METHOD", help="any unary method, by reflection"
    )
    what.add_argument("--oip", metavar="MODEL", help="any Open Inference Protocol server")
    parser.add_argument("--rows", type=int, default=1, metavar="N", help="of an --oip call (1)")
    parser.add_argument(
        "--length", type=int, default=32, metavar="N", help="of an --oip input's free sizes (32)"
    )
    parser.add_argument(
        "--data", default="{}", metavar="JSON", help="the request of --call; @FILE reads a file"
    )
    parser.add_argument("--same", action="store_true", help="send unchanged photos: caches answer")
    parser.add_argument("--user", type=int, default=12, help="the author of the photos (12)")
    _add_schedule(parser)
    parser.add_argument("--timeout", type=float, default=1.0, metavar="S", help="deadline (1)")
    parser.add_argument("--slo", type=float, metavar="S", help="what is in time (the deadline)")
    parser.add_argument("--processes", type=int, default=1, metavar="N", help="of the client (1)")
    parser.add_argument("--max-lag", type=float, metavar="S", help="of the client (SLO / 10)")
    parser.add_argument(
        "--report-anyway", action="store_true", help="also when the client was the bottleneck"
    )
    parser.add_argument("--json", type=Path, metavar="FILE", help="write the figures")
    parser.add_argument("--plot", type=Path, metavar="FILE.svg", help="draw them")


def _add_schedule(parser: argparse.ArgumentParser) -> None:
    rate = parser.add_mutually_exclusive_group()
    rate.add_argument("--rate", type=float, default=10.0, metavar="R", help="calls a second (10)")
    rate.add_argument(
        "--search", type=float, metavar="R", help="find the saturation point, starting at R"
    )
    rate.add_argument(
        "--trace", type=Path, metavar="FILE", help="send at these seconds, one a line"
    )
    parser.add_argument("--arrivals", choices=("poisson", "constant"), default="poisson")
    parser.add_argument("--seed", type=int, default=1, help="of the arrivals (1)")
    parser.add_argument("--seconds", type=float, default=10.0, metavar="S", help="measured (10)")
    parser.add_argument("--warm-up", type=float, default=2.0, metavar="S", help="before it (2)")
    parser.add_argument("--repeat", type=int, default=1, metavar="N", help="show the noise (1)")


def run(console: Console, arguments: argparse.Namespace, gateway: Callable[[], str]) -> int:
    """Runs the command; `gateway` says where this cluster's gateway is. Raises `CommandError`.

    The exit code is 1 when the client, not the server, was measured.
    """
    target = _target(arguments, arguments.address or gateway())
    plan = _plan(arguments)
    with Fleet(target, arguments.processes) as fleet:
        if arguments.search:
            return _search(console, fleet, plan, arguments)
        runs = [_watched(console, fleet, plan) for _ in range(arguments.repeat)]
    complaints = [m.summary.complaint for m in runs if m.summary.complaint]
    if complaints and not arguments.report_anyway:
        raise CommandError(f"no figures: {complaints[0]} (--report-anyway shows them)")
    for measurement in runs:
        report.show(console, measurement.summary)
    if len(runs) > 1:
        report.show_spread(console, [m.summary for m in runs])
    _keep(arguments, runs[-1:] if len(runs) > 1 else runs, runs, None)
    return 1 if complaints else 0


def _search(console: Console, fleet: Fleet, plan: Plan, arguments: argparse.Namespace) -> int:
    steps = Search(arguments.search)
    rate, done = search(lambda step: _watched(console, fleet, step), plan, steps)
    report.show_search(console, rate, done)
    _keep(arguments, done, done, rate)
    return 1 if done[-1].summary.complaint else 0


def _keep(
    arguments: argparse.Namespace,
    drawn: list[Measurement],
    written: list[Measurement],
    saturation: float | None,
) -> None:
    if arguments.json:
        arguments.json.write_text(report.to_json(written, saturation) + "\n")
    if arguments.plot:
        report.plot(arguments.plot, drawn)


def _watched(console: Console, fleet: Fleet, plan: Plan) -> Measurement:
    """Measures under a progress bar of the calls that have ended."""
    columns = (
        TextColumn("{task.description}"), BarColumn(), TextColumn("{task.completed:,} answered"),
        TextColumn("{task.fields[waiting]:,} waiting"), TimeRemainingColumn(),
    )  # fmt: skip
    calls = len(plan.offsets())
    name = "trace" if plan.trace is not None else f"{plan.rate:,.1f}/s"
    with Progress(
        *columns,
        console=console,
        transient=True,
        refresh_per_second=4,
        disable=not console.is_terminal,
    ) as progress:
        bar = progress.add_task(name, total=calls, waiting=0)

        def watch(sent: int, ended: int) -> None:
            progress.update(bar, completed=ended, waiting=sent - ended)

        return measure(fleet, plan, watch)


def _target(arguments: argparse.Namespace, address: str) -> Target:
    if arguments.call:
        data = arguments.data
        if data.startswith("@"):
            data = Path(data[1:]).read_text()
        payload = request_bytes(address, arguments.call, data)
        return Target(address, "/" + arguments.call.strip("/"), Cycle((payload,)))
    if arguments.oip:
        sizes = (arguments.rows, arguments.length)
        return open_inference_target(address, arguments.oip, *sizes, arguments.seed)
    photos = tuple(read_photo(path) for path in arguments.photo)
    nonce = b"" if arguments.same else os.urandom(8)
    payloads = DistinctPhotos(photos, arguments.user, nonce)
    return Target(address, ORCHESTRATE, payloads, is_degraded)


def _plan(arguments: argparse.Namespace) -> Plan:
    try:
        plan = Plan(
            rate=arguments.search or arguments.rate,
            seconds=arguments.seconds,
            warm_up_s=arguments.warm_up,
            timeout_s=arguments.timeout,
            slo_s=arguments.slo or arguments.timeout,
            seed=arguments.seed,
            is_poisson=arguments.arrivals == "poisson",
            trace=read_trace(arguments.trace) if arguments.trace else None,
            lag_bound_s=arguments.max_lag,
        )
        plan.offsets()
    except ScheduleError as error:
        raise CommandError(str(error)) from None
    if arguments.timeout <= 0 or arguments.processes < 1 or arguments.repeat < 1:
        raise CommandError("--timeout is > 0, --processes and --repeat at least 1")
    return plan
