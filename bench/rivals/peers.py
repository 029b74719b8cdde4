"""The servers that ours is compared with: where they are, how they start, with what settings."""

import shutil
import subprocess
import sys
import venv
from collections.abc import Mapping
from pathlib import Path

from bench.rivals.models import IMAGE, MLP, TEXT
from bench.rivals.processes import Command, free_port

HOMES = Path(".fomofeed/bench")
PINS = Path("requirements")
MLSERVER, RAY, OURS = "MLServer", "Ray Serve", "ours"
# Ray tells its makers unless told not to; its throughput mode answers 1.1 to 1.9 times the calls.
ENVIRONMENT = {
    "RAY_USAGE_STATS_ENABLED": "0",
    "RAY_SERVE_THROUGHPUT_OPTIMIZED": "1",
    "ORT_DISABLE_TELEMETRY": "1",  # as ours
}

Settings = tuple[str, ...]
# What is served; of several, each cell of the table is the best. MLServer's batcher joins rows of
# different lengths into one array, which fails, so text goes without it.
SETTINGS: Mapping[str, Mapping[str, tuple[Settings, ...]]] = {
    MLSERVER: {
        IMAGE: (("--workers", "0"), ("--workers", "1")),
        TEXT: (("--workers", "0"), ("--workers", "1")),
        MLP: (("--workers", "0"), ("--workers", "0", "--rows", "32", "--wait-ms", "5")),
    },
    RAY: {IMAGE: (("--rows", "4"),), TEXT: (("--rows", "4"),), MLP: (("--rows", "32"),)},
}
TRIED: Mapping[str, tuple[Settings, ...]] = {
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


def rival_command(rival: str, file: Path, model: str, settings: Settings) -> Command:
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


def version(rival: str, package: str) -> str:
    code = f"from importlib.metadata import version; print(version({package!r}))"
    return subprocess.check_output([home(rival) / "bin" / "python", "-c", code], text=True).strip()
