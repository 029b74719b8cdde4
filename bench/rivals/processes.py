"""Server processes of a bench: started, waited for, their CPU and memory read, ended.

A server may be a tree of processes: what it costs is what all of them cost.
"""

import asyncio
import os
import platform
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import IO

import grpc

from cluster.procfs import ProcessId
from inference import grpc_service_pb2 as pb
from inference import grpc_service_pb2_grpc as pb_grpc

_START_S = 120.0
_END_S = 1.0
_TICKS = os.sysconf("SC_CLK_TCK")
_COMPLAINT_BYTES = 2000  # of what a server said before it failed


@dataclass(frozen=True, slots=True)
class Command:
    """`python -m module ARGUMENTS --port P`, with any interpreter."""

    module: str
    arguments: Sequence[str]
    python: str | Path = sys.executable
    environment: Mapping[str, str] = field(default_factory=dict)  # beside that of this process


@dataclass(frozen=True, slots=True)
class Running:
    """A server that answers at `address`, `start_s` seconds after it was started."""

    address: str
    pid: int
    start_s: float

    def cpu_s(self) -> float:
        """CPU seconds that its processes have used, all threads."""
        return sum(_cpu_s(Path(f"/proc/{pid}/stat")) for pid in descendants(self.pid))

    def cpu_by_thread(self) -> dict[int, float]:
        """CPU seconds of each thread of the first process, by thread id; the loop's is `pid`."""
        tasks = Path(f"/proc/{self.pid}/task")
        return {int(task.name): _cpu_s(task / "stat") for task in tasks.iterdir()}

    def memory_mb(self) -> float:
        """Memory of its processes, MB of 10^6 bytes; a page that several share counts once."""
        return sum(_memory_mb(pid) for pid in descendants(self.pid))


def descendants(pid: int) -> list[int]:
    """Returns a process and all that it started, and those that they started."""
    found = [pid]
    for parent in found:
        with suppress(OSError):
            for task in Path(f"/proc/{parent}/task").iterdir():
                found += map(int, (task / "children").read_text().split())
    return found


def _memory_mb(pid: int) -> float:
    with suppress(OSError):
        for line in Path(f"/proc/{pid}/smaps_rollup").read_text().splitlines():
            if line.startswith("Pss:"):
                return int(line.split()[1]) * 1024 / 1e6
    return 0.0


def _cpu_s(stat: Path) -> float:
    with suppress(OSError):
        after_name = stat.read_text().rpartition(")")[2].split()
        return (int(after_name[11]) + int(after_name[12])) / _TICKS
    return 0.0


@contextmanager
def running(command: Command, model: str) -> Iterator[Running]:
    """Runs a server; gives it once it serves `model`. Exits with what it said when it does not."""
    port = free_port()
    argv = [str(command.python), "-m", command.module, *command.arguments, "--port", str(port)]
    with tempfile.TemporaryFile() as said:
        began = time.perf_counter()
        process = subprocess.Popen(
            argv, stdout=said, stderr=said, env={**os.environ, **command.environment}
        )
        try:
            address = f"127.0.0.1:{port}"
            if not asyncio.run(_serves(address, model, process)):
                raise SystemExit(f"{' '.join(argv)} does not serve {model}:\n{_end_of(said)}")
            yield Running(address, process.pid, time.perf_counter() - began)
        finally:
            _end(process)


def _end(process: subprocess.Popen[bytes]) -> None:
    tree = [ProcessId.of_child(pid) for pid in descendants(process.pid)[1:]]
    process.terminate()
    try:
        process.wait(_END_S)
    except subprocess.TimeoutExpired:  # ours serves on for its lame-duck time
        process.kill()
        process.wait()
    for left in tree:
        with suppress(ProcessLookupError):
            if left.is_running():
                os.kill(left.pid, 9)


def _end_of(said: IO[bytes]) -> str:
    size = said.seek(0, os.SEEK_END)
    said.seek(max(0, size - _COMPLAINT_BYTES))
    return said.read().decode(errors="replace")


async def _serves(address: str, model: str, process: subprocess.Popen[bytes]) -> bool:
    end = time.monotonic() + _START_S
    options = [("grpc.initial_reconnect_backoff_ms", 50), ("grpc.max_reconnect_backoff_ms", 100)]
    async with grpc.aio.insecure_channel(address, options=options) as channel:
        stub = pb_grpc.GRPCInferenceServiceStub(channel)
        request = pb.ModelReadyRequest(name=model)
        while process.poll() is None and time.monotonic() < end:
            try:
                if (await stub.ModelReady(request, timeout=10, wait_for_ready=True)).ready:
                    return True
            except grpc.aio.AioRpcError:
                pass
            await asyncio.sleep(0.02)
    return False


def free_port() -> int:
    """Returns a TCP port that was free a moment ago."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def machine() -> str:
    """Names what was measured on, and how busy it was with other things."""
    load = os.getloadavg()[0]
    cores = f"{os.cpu_count()} cores {platform.machine()}"
    return f"{cores}, Python {platform.python_version()}, load {load:.1f}"
