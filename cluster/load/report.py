"""Measurements for people (tables), for machines (JSON) and for the eye (SVG)."""

import json
import math
import platform
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.table import Table

from cluster.load.chart import Chart, draw
from cluster.load.measure import GOOD_SHARE, Measurement
from cluster.load.summary import Summary, over_time, spread

_WINDOWS = 60  # points of a curve over time
STEADY_CALLS = 2 / (1 - GOOD_SHARE)  # of a step of a search: then a single bad one is forgiven


def show(console: Console, summary: Summary) -> None:
    """Prints one measurement."""
    console.print(
        f"offered {summary.offered:,.1f}/s for {summary.seconds:g} s   answered "
        f"{summary.answered:,.1f}/s   good {summary.goodput:,.1f}/s = "
        f"{summary.good_share:.2%} within {summary.slo_s * 1e3:g} ms"
    )
    table = Table(box=None)
    for heading in ("latency, ms", *_quantile_names(summary), "mean"):
        table.add_column(heading, justify="right")
    table.add_row("answered", *_cells(summary, summary.latency), _ms(summary.mean_s))
    if summary.refusal:
        table.add_row("failed", *_cells(summary, summary.refusal), "")
    console.print(table)
    statuses = ", ".join(f"{name} {count:,}" for name, count in sorted(summary.statuses.items()))
    console.print(f"status: {statuses}")
    console.print(
        f"client: {summary.client_processes} process(es), {summary.client_cpu:.2f} cores, "
        f"sent {summary.lag_p99_s * 1e3:.2f} ms late (p99)"
    )


def show_spread(console: Console, summaries: Sequence[Summary]) -> None:
    """Prints how far repetitions of one plan lie apart: the noise of every figure above."""
    figures = {"goodput": [s.goodput for s in summaries]}
    for name in ("p50", "p99"):
        if all(name in s.latency for s in summaries):
            figures[name] = [s.latency[name] for s in summaries]
    noise = ", ".join(f"{name} ± {spread(values):.1%}" for name, values in figures.items())
    console.print(f"{len(summaries)} runs of the same schedule: {noise}")


def show_search(console: Console, rate: float, steps: Sequence[Measurement]) -> None:
    """Prints the steps of a search and what it found."""
    table = Table(box=None)
    for heading in ("rate/s", "calls", "good/s", "good", "p50 ms", "p99 ms", "client late ms"):
        table.add_column(heading, justify="right")
    for step in sorted(steps, key=lambda step: step.plan.rate):
        s = step.summary
        quantiles = [_ms(s.latency.get(name, math.nan)) for name in ("p50", "p99")]
        row = (
            f"{step.plan.rate:,.1f}",
            f"{s.calls:,}",
            f"{s.goodput:,.1f}",
            f"{s.good_share:.1%}",
            *quantiles,
        )
        table.add_row(*row, f"{s.lag_p99_s * 1e3:.2f}")
    console.print(table)
    complaint = steps[-1].summary.complaint
    if complaint:
        console.print(f"stopped at the client's limit, not the server's: {complaint}")
    found = f"{rate:,.1f}/s" if rate else f"below {min(m.plan.rate for m in steps):,.1f}/s"
    within = f"{GOOD_SHARE:.0%} within {steps[-1].summary.slo_s * 1e3:g} ms"
    console.print(f"saturation: {found}{' or more' if complaint and rate else ''} ({within})")
    if rate and rate * steps[-1].plan.seconds < STEADY_CALLS:
        longer = math.ceil(STEADY_CALLS / rate)
        console.print(f"few calls a step: one late call fails it; --seconds {longer} is steadier")


def to_json(measurements: Sequence[Measurement], saturation: float | None) -> str:
    """Returns everything measured but the single calls."""
    content: dict[str, Any] = {
        "machine": {"node": platform.machine(), "python": platform.python_version()},
        "measurements": [
            {"rate": m.plan.rate, "seed": m.plan.seed, **m.summary.to_json()} for m in measurements
        ],
    }
    if saturation is not None:
        content["saturation"] = saturation
    return json.dumps(_finite(content), indent=2)


def plot(path: Path, measurements: Sequence[Measurement]) -> None:
    """Writes an SVG: one measurement over time, several over the offered rate."""
    charts = _over_time(measurements[0]) if len(measurements) == 1 else _over_rate(measurements)
    path.write_text(draw(charts))


def _over_time(measurement: Measurement) -> list[Chart]:
    length = float(measurement.outcomes.intended.max(initial=1.0))
    series = over_time(measurement.outcomes, measurement.plan.slo_s, max(length / _WINDOWS, 0.1))
    rates = {name: series[name] for name in ("offered", "goodput")}
    times = {name: [(x, y * 1e3) for x, y in series[name]] for name in ("p50", "p99")}
    return [
        Chart("Calls a second by intended time", "seconds", "calls/s", rates),
        Chart("Latency of OK calls from the intended time", "seconds", "ms", times, is_log=True),
    ]


def _over_rate(measurements: Sequence[Measurement]) -> list[Chart]:
    ordered = sorted((m.summary for m in measurements), key=lambda s: s.offered)
    good = {
        "offered": [(s.offered, s.offered) for s in ordered],
        "goodput": [(s.offered, s.goodput) for s in ordered],
    }
    times = {
        name: [(s.offered, s.latency[name] * 1e3) for s in ordered if name in s.latency]
        for name in ("p50", "p99")
    }
    return [
        Chart("Good calls a second", "offered calls/s", "calls/s", good),
        Chart("Latency of OK calls", "offered calls/s", "ms", times, is_log=True),
    ]


def _quantile_names(summary: Summary) -> list[str]:
    return list(summary.latency or summary.refusal)


def _cells(summary: Summary, seconds: dict[str, float]) -> list[str]:
    return [_ms(seconds.get(name, math.nan)) for name in _quantile_names(summary)]


def _ms(seconds: float) -> str:
    return "–" if math.isnan(seconds) else f"{seconds * 1e3:.2f}"


def _finite(value: Any) -> Any:
    """JSON has no NaN: it becomes null."""
    if isinstance(value, dict):
        return {key: _finite(item) for key, item in value.items()}
    if isinstance(value, list):
        return [_finite(item) for item in value]
    return None if isinstance(value, float) and not math.isfinite(value) else value
