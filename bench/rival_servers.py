"""Ours beside MLServer and Ray Serve: same models, same client. Writes docs/bench/rivals.md.

`python bench/rival_servers.py --install` makes a virtual environment for each under
.fomofeed/bench/ from the pins of requirements/rivals-*.txt, once; without it, a rival that is not
there is left out and said so. Then each model is served by each server, one at a time with the same
ONNX Runtime on one thread, and asked over the Open Inference Protocol by 1 to 64 callers without
pause, one row a call, in turns and short slices. A cell is the median of the slices, the noise half
their range over its middle. Cold start is from the command to the first true ModelReady; idle
memory that of all the server's processes, shared pages once. `--settings` tries the settings that a
rival offers and prints them; `SETTINGS` holds the best, with the reason.
"""

import argparse
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
import venv
from collections.abc import Mapping
from contextlib import ExitStack
from dataclasses import dataclass, field
from pathlib import Path

from bench.rivals.models import IMAGE, MLP, TEXT, write_repository
from bench.rivals.processes import Command, Running, free_port, machine, running
from bench.rivals.turns import Cell, Cells, empty_cells, one_round
from cluster.load.summary import spread

CALLERS = (1, 8, 32, 64)
REPORT = Path("docs/bench/rivals.md")
HOMES = Path(".fomofeed/bench")
PINS = Path("requirements")
MLSERVER, RAY, OURS = "MLServer", "Ray Serve", "ours"
IDLE_S = 1.0  # from ready to the reading of the memory
NEAR = 1.0  # noises that two figures must be apart to count as different

# Ray tells its makers unless told not to; its throughput mode answers 1.1 to 1.9 times the calls.
ENVIRONMENT = {"RAY_USAGE_STATS_ENABLED": "0", "RAY_SERVE_THROUGHPUT_OPTIMIZED": "1"}

# The best of what `--settings` tried, by model.
SETTINGS: Mapping[str, Mapping[str, tuple[str, ...]]] = {
    MLSERVER: {
        IMAGE: ("--workers", "0"),
        TEXT: ("--workers", "0"),
        MLP: ("--workers", "0"),
    },
    RAY: {
        IMAGE: ("--rows", "4"),
        TEXT: ("--rows", "8"),
        MLP: ("--rows", "32"),
    },
}
TRIED: Mapping[str, tuple[tuple[str, ...], ...]] = {
    MLSERVER: (
        ("--workers", "0"),
        ("--workers", "1"),
        ("--workers", "0", "--rows", "8", "--wait-ms", "1"),
        ("--workers", "0", "--rows", "32", "--wait-ms", "5"),
    ),
    RAY: (
        ("--rows", "1"),
        ("--rows", "4"),
        ("--rows", "32"),
        ("--rows", "8", "--wait-ms", "2"),
    ),
}


@dataclass(slots=True)
class Start:
    """What each start of a server showed."""

    seconds: list[float] = field(default_factory=list)
    memory_mb: list[float] = field(default_factory=list)


def home(rival: str) -> Path:
    """The virtual environment of a rival."""
    return HOMES / rival.split(maxsplit=1)[0].lower()


def install(rival: str) -> None:
    """Makes a rival's environment from its pins, unless it is there from these pins."""
    pins = PINS / f"rivals-{home(rival).name}.txt"
    stamp = home(rival) / "pins.txt"
    if stamp.is_file() and stamp.read_bytes() == pins.read_bytes():
        return
    print(f"installing {rival}: some minutes", file=sys.stderr)
    shutil.rmtree(home(rival), ignore_errors=True)
    venv.create(home(rival), with_pip=True)
    pip = [str(home(rival) / "bin" / "python"), "-m", "pip", "install", "--quiet"]
    subprocess.run([*pip, "-r", str(pins)], check=True)
    shutil.copyfile(pins, stamp)


def rival_command(rival: str, file: Path, model: str, settings: tuple[str, ...]) -> Command:
    """Returns how a rival is started for a model."""
    module = {MLSERVER: "bench.rivals.mlserver_host", RAY: "bench.rivals.ray_host"}[rival]
    ports = ["--http-port", str(free_port())]
    if rival == MLSERVER:
        ports += ["--metrics-port", str(free_port())]
    environment = {"PYTHONPATH": f"{Path.cwd()}:{Path.cwd() / 'gen'}", **ENVIRONMENT}
    arguments = [str(file.resolve()), "--name", model, *settings, *ports]
    return Command(module, arguments, (home(rival) / "bin" / "python").absolute(), environment)


def our_command(repository: Path) -> Command:
    """`fomofeed serve`."""
    return Command("serving.oip", ["--model-repository", str(repository), "--metrics-port", "0"])


def measure(
    model: str, rivals: list[str], options: argparse.Namespace, starts: dict[str, Start]
) -> Cells:
    """Serves one model with each server and asks them in turns."""
    cells = empty_cells([OURS, *rivals], CALLERS)
    with tempfile.TemporaryDirectory() as folder, ExitStack() as stack:
        file = write_repository(Path(folder), [model])[model]
        commands = {OURS: our_command(Path(folder))}
        commands |= {r: rival_command(r, file, model, SETTINGS[r][model]) for r in rivals}
        servers: dict[str, Running] = {}
        for name, command in commands.items():  # one after the other: each starts on a calm machine
            servers[name] = stack.enter_context(running(command, model))
            starts[name].seconds.append(servers[name].start_s)
        time.sleep(IDLE_S)
        for name, server in servers.items():
            starts[name].memory_mb.append(server.memory_mb())
        for _ in range(options.rounds):
            one_round(servers, model, options.seconds, cells)
    return cells


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
            if not cell.rates:
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


def try_settings(rivals: list[str], models: list[str], seconds: float) -> None:
    """Prints what each setting of each rival gives at 8 and 64 callers."""
    for model in models:
        with tempfile.TemporaryDirectory() as folder:
            file = write_repository(Path(folder), [model])[model]
            for rival in rivals:
                for settings in TRIED[rival]:
                    cells = empty_cells([rival], (8, 64))
                    with running(rival_command(rival, file, model, settings), model) as server:
                        for _ in range(2):
                            one_round({rival: server}, model, seconds, cells)
                    found = (f"{n}: {c.rate:,.0f}/s {c.failed}f" for n, c in cells[rival].items())
                    print(model, rival, *settings, *found, flush=True)


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
    versions = [f"{rival} {_version(rival, pins[rival])}" for rival in rivals]
    return [
        f"{', '.join(versions)}; {machine()}; {options.rounds} rounds of {options.seconds:g} s.",
        "",
    ]


def _version(rival: str, package: str) -> str:
    code = f"from importlib.metadata import version; print(version({package!r}))"
    return subprocess.check_output([home(rival) / "bin" / "python", "-c", code], text=True).strip()


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--seconds", type=float, default=1.0, help="of each slice")
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
        try_settings(rivals, options.models, options.seconds)
    elif rivals:
        compare(rivals, options)


if __name__ == "__main__":
    main()
