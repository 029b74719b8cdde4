"""How soon does `fomofeed serve` answer, and what does it hold? Writes docs/bench/cold_start.md.

`python bench/cold_start.py` starts the command on a repository of one small ONNX model, several
times, and waits until health says SERVING. Beside it in each round: a bare Python process that
imports what any such server needs (gRPC, NumPy, ONNX Runtime) and ends.
"""

import argparse
import os
import platform
import re
import signal
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import onnx
from grpc import insecure_channel
from grpc_health.v1 import health_pb2, health_pb2_grpc
from onnx import TensorProto, helper, numpy_helper

REPORT = Path("docs/bench/cold_start.md")
IDLE_AFTER_S = 1.0  # when the memory is read
_LISTENING = re.compile(rb"listening on (\S+)")
_IMPORTS = "import grpc, numpy, onnxruntime, prometheus_client, google.protobuf.message"


@dataclass(frozen=True, slots=True)
class Start:
    """One start; memory is resident, in MB of 10^6 bytes."""

    imports_s: float
    serving_s: float
    memory_mb: float


def write_model(folder: Path) -> None:
    """Writes an MLP of 32 → 64 → 1 with fixed weights."""
    chance = np.random.default_rng(0)
    weights = {"w": (32, 64), "v": (64, 1)}
    graph = helper.make_graph(
        [
            helper.make_node("MatMul", ["x", "w"], ["h"]),
            helper.make_node("Relu", ["h"], ["r"]),
            helper.make_node("MatMul", ["r", "v"], ["y"]),
        ],
        "mlp",
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, ["rows", 32])],
        [helper.make_tensor_value_info("y", TensorProto.FLOAT, ["rows", 1])],
        [
            numpy_helper.from_array(chance.standard_normal(shape).astype(np.float32), name)
            for name, shape in weights.items()
        ],
    )
    folder.mkdir(parents=True)
    opset = [helper.make_opsetid("", 17)]
    onnx.save(helper.make_model(graph, opset_imports=opset, ir_version=8), folder / "model.onnx")


def serve_once(repository: Path) -> tuple[float, float]:
    """Returns the seconds from the command to SERVING, and the idle memory in MB."""
    began = time.perf_counter()
    command = (sys.executable, "-m", "cluster", "serve", "--model-repository", str(repository))
    server = subprocess.Popen(
        [*command, "--port", "0", "--metrics-port", "0"], stderr=subprocess.PIPE
    )
    assert server.stderr is not None
    try:
        target = next(found[1] for line in server.stderr if (found := _LISTENING.search(line)))
        with insecure_channel(target.decode()) as channel:
            watch = health_pb2_grpc.HealthStub(channel).Watch(health_pb2.HealthCheckRequest())
            next(s for s in watch if s.status == health_pb2.HealthCheckResponse.SERVING)
            seconds = time.perf_counter() - began
            watch.cancel()
        time.sleep(IDLE_AFTER_S)
        return seconds, resident_mb(server.pid)
    finally:
        server.send_signal(signal.SIGKILL)
        server.communicate()


def resident_mb(pid: int) -> float:
    lines = Path(f"/proc/{pid}/status").read_text().splitlines()
    (kilobytes,) = (int(line.split()[1]) for line in lines if line.startswith("VmRSS"))
    return kilobytes * 1024 / 1e6


def import_once() -> float:
    """Returns the seconds of a process that only imports."""
    began = time.perf_counter()
    silent = {**os.environ, "ORT_DISABLE_TELEMETRY": "1"}  # as ours
    subprocess.run([sys.executable, "-c", _IMPORTS], check=True, env=silent)
    return time.perf_counter() - began


def measure(rounds: int) -> list[Start]:
    """Alternates the two, after one round whose figures nobody sees."""
    with tempfile.TemporaryDirectory() as root:
        write_model(Path(root) / "mlp" / "1")
        starts = [Start(import_once(), *serve_once(Path(root))) for _ in range(rounds + 1)]
    return starts[1:]


def machine() -> str:
    """Processor, cores and Python, as a reader needs them to compare."""
    lines = Path("/proc/cpuinfo").read_text().splitlines()
    model = next((line.split(":")[1].strip() for line in lines if "model name" in line), "CPU")
    return f"{len(os.sched_getaffinity(0))} cores of {model}, Python {platform.python_version()}"


def report(starts: Sequence[Start]) -> str:
    """The whole report as Markdown."""
    rows = [
        ("only the imports, s", [start.imports_s for start in starts]),
        ("command to SERVING, s", [start.serving_s for start in starts]),
        ("ratio of the two", [start.serving_s / start.imports_s for start in starts]),
        ("idle memory, MB", [start.memory_mb for start in starts]),
    ]
    git = ("git", "describe", "--always", "--dirty")
    commit = subprocess.run(git, capture_output=True, text=True, check=True).stdout.strip()
    lines = [
        "# Cold start of `fomofeed serve` with one small ONNX model",
        "",
        f"{machine()}; {time.strftime('%Y-%m-%d')}, commit {commit}; "
        f"load average {os.getloadavg()[0]:.1f}; {len(starts)} starts.",
        "",
        "| | median | least | most |",
        "| --- | --- | --- | --- |",
        *(
            f"| {name} | {statistics.median(values):.2f} | {min(values):.2f} | {max(values):.2f} |"
            for name, values in rows
        ),
    ]
    return "\n".join(lines) + "\n"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rounds", type=int, default=10)
    parser.add_argument("--out", type=Path, default=REPORT)
    arguments = parser.parse_args()
    text = report(measure(arguments.rounds))
    arguments.out.parent.mkdir(parents=True, exist_ok=True)
    arguments.out.write_text(text)
    print(text)


if __name__ == "__main__":
    main()
