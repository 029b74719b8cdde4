"""`fomofeed load`: what it does with its arguments."""

import argparse
import os
from collections.abc import Callable
from pathlib import Path

from rich.console import Console
from rich.progress import BarColumn, Progress, TextColumn, TimeRemainingColumn

from cluster.analyze import read_photo
from cluster.errors import CommandError
from cluster.load import report
from cluster.load.arguments import OIP_ADDRESS
from cluster.load.arrivals import ScheduleError, read_trace
from cluster.load.fleet import Fleet
from cluster.load.measure import Measurement, Plan, measure, search
from cluster.load.oip import open_inference_target
from cluster.load.reflection import request_bytes
from cluster.load.saturation import Search
from cluster.load.targets import ORCHESTRATE, Cycle, DistinctPhotos, Target, is_degraded


def run(console: Console, arguments: argparse.Namespace, gateway: Callable[[], str]) -> int:
    """Runs the command; `gateway` says where this cluster's gateway is. Raises `CommandError`.

    The exit code is 1 when the client, not the server, was measured.
    """
    plan = _plan(arguments)
    default = OIP_ADDRESS if arguments.oip else ""
    target = _target(arguments, arguments.address or default or gateway())
    with Fleet(target, arguments.processes) as fleet:
        if arguments.search:
            return _search(console, fleet, plan, arguments)
        runs = []
        for _ in range(arguments.repeat):
            runs.append(_watched(console, fleet, plan))
            complaint = runs[-1].summary.complaint
            if complaint and not arguments.report_anyway:
                raise CommandError(f"no figures: {complaint} (--report-anyway shows them)")
    for measurement in runs:
        report.show(console, measurement.summary)
    if len(runs) > 1:
        report.show_spread(console, [m.summary for m in runs])
    _keep(arguments, runs[-1:] if len(runs) > 1 else runs, runs, None)
    return 1 if any(m.summary.complaint for m in runs) else 0


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
        _check(plan)
    except ScheduleError as error:
        raise CommandError(str(error)) from None
    if arguments.timeout <= 0 or arguments.processes < 1 or arguments.repeat < 1:
        raise CommandError("--timeout is > 0, --processes and --repeat at least 1")
    return plan


def _check(plan: Plan) -> None:
    """Refuses a schedule that cannot be made, or that ends before anything is measured."""
    offsets = plan.offsets()
    if plan.trace is not None and offsets[-1] <= plan.warm_up_s:
        raise ScheduleError(
            f"the trace ends after {offsets[-1]:g} s, within the warm-up of {plan.warm_up_s:g} s: "
            "--warm-up 0 measures all of it"
        )
