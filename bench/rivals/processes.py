"""Server processes of a bench: started, waited for, their CPU read, ended."""

import asyncio
import os
import platform
import socket
import subprocess
import sys
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import grpc

from inference import grpc_service_pb2 as pb
from inference import grpc_service_pb2_grpc as pb_grpc

_START_S = 60.0
_END_S = 1.0
_TICKS = os.sysconf("SC_CLK_TCK")


@dataclass(frozen=True, slots=True)
class Running:
    """A server that answers at `address`."""

    address: str
    pid: int

    def cpu_s(self) -> float:
        """CPU seconds that its process has used, all threads."""
        return _cpu_s(Path(f"/proc/{self.pid}/stat"))

    def cpu_by_thread(self) -> dict[int, float]:
        """CPU seconds of each of its threads, by thread id; the event loop's is `pid`."""
        tasks = Path(f"/proc/{self.pid}/task")
        return {int(task.name): _cpu_s(task / "stat") for task in tasks.iterdir()}

    def memory_mb(self) -> float:
        """Resident memory, MB."""
        pages = int(Path(f"/proc/{self.pid}/statm").read_text().split()[1])
        return pages * os.sysconf("SC_PAGE_SIZE") / 1e6


def _cpu_s(stat: Path) -> float:
    after_name = stat.read_text().rpartition(")")[2].split()
    return (int(after_name[11]) + int(after_name[12])) / _TICKS


@contextmanager
def running(module: str, arguments: Sequence[str], model: str) -> Iterator[Running]:
    """Runs `python -m module ARGUMENTS --port P`; gives it once it serves `model`."""
    port = _free_port()
    command = [sys.executable, "-m", module, *arguments, "--port", str(port)]
    process = subprocess.Popen(command, stderr=subprocess.DEVNULL)
    try:
        address = f"127.0.0.1:{port}"
        asyncio.run(_wait(address, model, process))
        yield Running(address, process.pid)
    finally:
        process.terminate()
        try:
            process.wait(_END_S)
        except subprocess.TimeoutExpired:  # ours serves on for its lame-duck time
            process.kill()
            process.wait()


async def _wait(address: str, model: str, process: subprocess.Popen[bytes]) -> None:
    end = time.monotonic() + _START_S
    async with grpc.aio.insecure_channel(address) as channel:
        stub = pb_grpc.GRPCInferenceServiceStub(channel)
        request = pb.ModelReadyRequest(name=model)
        while process.poll() is None and time.monotonic() < end:
            try:
                if (await stub.ModelReady(request, timeout=1, wait_for_ready=True)).ready:
                    return
            except grpc.aio.AioRpcError:
                pass
            await asyncio.sleep(0.02)
    raise SystemExit(f"{' '.join(process.args)} does not serve {model}")  # type: ignore[arg-type]


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def machine() -> str:
    """Names what was measured on, and how busy it was with other things."""
    load = os.getloadavg()[0]
    cores = f"{os.cpu_count()} cores {platform.machine()}"
    return f"{cores}, Python {platform.python_version()}, load {load:.1f}"
