"""Ours beside MLServer and Ray Serve: same models, same client. Writes docs/bench/rivals.md.

`python bench/rival_servers.py --install` makes a virtual environment for each under
.fomofeed/bench/ from the pins of requirements/rivals-*.txt, once; without it, a rival that is not
there is left out and said so. Then each model is served by each server, one at a time with the same
ONNX Runtime on one thread, and asked over the Open Inference Protocol by 1 to 64 callers without
pause, one row a call, in turns and short slices. A cell is the median of the slices, the noise half
their range over its middle. Cold start is from the command to the first true ModelReady; idle
memory that of all the server's processes, shared pages once. `--settings` tries the settings that a
rival offers and prints them; `SETTINGS` holds what is measured, and the best of it is shown.
"""

import argparse
import statistics
import sys
import tempfile
import time
from collections.abc import Mapping
from contextlib import ExitStack
from dataclasses import dataclass, field
from pathlib import Path

from bench.rivals.models import IMAGE, MLP, TEXT, write_repository
from bench.rivals.peers import (
    MLSERVER,
    OURS,
    RAY,
    SETTINGS,
    TRIED,
    Settings,
    home,
    install,
    our_command,
    rival_command,
    version,
)
from bench.rivals.processes import Command, Running, machine, running
from bench.rivals.turns import Cell, Cells, empty_cells, one_round
from cluster.load.summary import spread

CALLERS = (1, 8, 32, 64)
REPORT = Path("docs/bench/rivals.md")
LONGER = {IMAGE: 4, TEXT: 4}  # slices: a p99 of 200 calls, each of them behind up to 63 others
IDLE_S = 1.0  # from ready to the reading of the memory
NEAR = 1.0  # noises that two figures must be apart to count as different


@dataclass(slots=True)
class Start:
    """What each start of a server showed."""

    seconds: list[float] = field(default_factory=list)
    memory_mb: list[float] = field(default_factory=list)


def measure(
    model: str, rivals: list[str], options: argparse.Namespace, starts: dict[str, Start]
) -> Cells:
    """Serves one model with each server and asks them in turns; returns the best of each."""
    with tempfile.TemporaryDirectory() as folder, ExitStack() as stack:
        file = write_repository(Path(folder), [model])[model]
        commands: dict[tuple[str, Settings], Command] = {(OURS, ()): our_command(Path(folder))}
        for rival in rivals:
            for settings in SETTINGS[rival][model]:
                commands[rival, settings] = rival_command(rival, file, model, settings)
        servers: dict[str, Running] = {}
        for (name, settings), command in commands.items():  # in turns: each has the machine
            server = stack.enter_context(running(command, model))
            starts[name].seconds.append(server.start_s)
            servers[" ".join([name, *settings])] = server
        time.sleep(IDLE_S)
        for name, settings in commands:
            starts[name].memory_mb.append(servers[" ".join([name, *settings])].memory_mb())
        cells = empty_cells(list(servers), CALLERS)
        seconds = options.seconds * LONGER.get(model, 1)
        for _ in range(options.rounds):
            one_round(servers, model, seconds, cells)
    return {name: best_of(name, cells) for name in (OURS, *rivals)}


def best_of(name: str, cells: Cells) -> dict[int, Cell]:
    """Returns the cells of the settings that answered most, at each number of callers."""
    mine = [by_callers for full, by_callers in cells.items() if full.startswith(name)]
    return {n: max((each[n] for each in mine), key=lambda cell: cell.rate) for n in CALLERS}


def verdict(ours: list[float], theirs: list[float], *, more_is_better: bool) -> str:
    """Says who is ahead, unless the difference is within the noise of the two."""
    mine, other = statistics.median(ours), statistics.median(theirs)
    noise = NEAR * (spread(ours) * mine + spread(theirs) * other)
    if abs(mine - other) <= noise:
        return "within noise"
    return "ahead" if (mine > other) == more_is_better else "behind"


def table(model: str, cells: Cells) -> list[str]:
    """Returns the lines of one model's table."""
    headings = ("callers", "server", "rows/s", "noise", "p50 ms", "p99 ms", "noise", "CPU ms/row")
    lines = [f"## {model}", "", f"| {' | '.join(headings)} | ours in rows/s | in p99 |"]
    lines.append("| --- " * (len(headings) + 2) + "|")
    for callers in CALLERS:
        ours = cells[OURS][callers]
        for name, by_callers in cells.items():
            cell = by_callers[callers]
            if not cell.p50_ms:
                lines.append(f"| {callers} | {name} | {cell.failed} failed |" + " |" * 7)
                continue
            lines.append(f"| {callers} | {name} {_figures(cell)} {_verdicts(ours, cell)} |")
    return [*lines, ""]


def _figures(cell: Cell) -> str:
    middle = statistics.median
    return (
        f"| {cell.rate:,.0f} | ± {spread(cell.rates):.0%} | {middle(cell.p50_ms):.2f} "
        f"| {middle(cell.p99_ms):.2f} | ± {spread(cell.p99_ms):.0%} "
        f"| {middle(cell.cpu_us) / 1e3:.2f}"
        + (f", {cell.failed} failed |" if cell.failed else " |")
    )


def _verdicts(ours: Cell, cell: Cell) -> str:
    if cell is ours:
        return "| "
    rate = verdict(ours.rates, cell.rates, more_is_better=True)
    p99 = verdict(ours.p99_ms, cell.p99_ms, more_is_better=False)
    return f"{ours.rate / cell.rate:.2f} ×, {rate} | {p99}"


def start_table(starts: Mapping[str, Start]) -> list[str]:
    """Returns the lines of cold start and idle memory."""
    lines = ["## Start", "", "| server | cold start s | noise | idle memory MB | noise |"]
    lines.append("| --- " * 5 + "|")
    for name, start in starts.items():
        lines.append(
            f"| {name} | {statistics.median(start.seconds):.1f} | ± {spread(start.seconds):.0%} "
            f"| {statistics.median(start.memory_mb):.0f} | ± {spread(start.memory_mb):.0%} |"
        )
    return [*lines, ""]


def try_settings(rivals: list[str], options: argparse.Namespace) -> None:
    """Prints what each setting of each rival gives, all asked in turns."""
    for model in options.models:
        for rival in rivals:
            with tempfile.TemporaryDirectory() as folder, ExitStack() as stack:
                file = write_repository(Path(folder), [model])[model]
                servers = {
                    " ".join(settings): stack.enter_context(
                        running(rival_command(rival, file, model, settings), model)
                    )
                    for settings in TRIED[rival]
                }
                cells = empty_cells(list(servers), (8, 64))
                for _ in range(options.rounds):
                    one_round(servers, model, options.seconds, cells)
            for settings, by_callers in cells.items():
                found = (
                    f"{n} callers {c.rate:,.0f}/s ± {spread(c.rates or [0]):.0%}, {c.failed} failed"
                    for n, c in by_callers.items()
                )
                print(f"{model}, {rival} {settings}: {', '.join(found)}", flush=True)


def compare(rivals: list[str], options: argparse.Namespace) -> None:
    """Measures every model and writes the report."""
    starts = {name: Start() for name in (OURS, *rivals)}
    lines = ["# Beside MLServer and Ray Serve", "", *introduction(rivals, options)]
    for model in options.models:
        lines += table(model, measure(model, rivals, options, starts))
    lines += start_table(starts)
    options.out.write_text("\n".join(lines), encoding="utf-8")
    print("\n".join(lines))


def introduction(rivals: list[str], options: argparse.Namespace) -> list[str]:
    """Says what was compared, and on what."""
    pins = {MLSERVER: "mlserver", RAY: "ray"}
    versions = [f"{rival} {version(rival, pins[rival])}" for rival in rivals]
    return [
        f"{', '.join(versions)}; {machine()}; {options.rounds} rounds of {options.seconds:g} s, "
        f"of {options.seconds * LONGER[TEXT]:g} s for the larger models.",
        "",
    ]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--seconds", type=float, default=0.8, help="of each slice")
    parser.add_argument("--rounds", type=int, default=3, help="slices of each cell")
    parser.add_argument("--models", nargs="+", default=[IMAGE, TEXT, MLP])
    parser.add_argument("--rivals", nargs="+", default=[MLSERVER, RAY])
    parser.add_argument("--install", action="store_true", help="make the rivals' environments")
    parser.add_argument("--settings", action="store_true", help="try the rivals' settings")
    parser.add_argument("--out", type=Path, default=REPORT)
    options = parser.parse_args()
    if options.install:
        for rival in options.rivals:
            install(rival)
    rivals = [rival for rival in options.rivals if home(rival).is_dir()]
    if missing := [rival for rival in options.rivals if rival not in rivals]:
        print(f"without {', '.join(missing)}: --install gets them", file=sys.stderr)
    if options.settings:
        try_settings(rivals, options)
    elif rivals:
        compare(rivals, options)


if __name__ == "__main__":
    main()
