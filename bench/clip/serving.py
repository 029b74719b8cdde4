"""A clip server as a process of its own: started, waited for, its memory and CPU read, ended."""

import os
import re
import subprocess
import sys
import threading
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path

import grpc
from grpc_health.v1 import health_pb2, health_pb2_grpc

from bench.rivals.processes import Running, descendants

_LISTENING = re.compile(rb"listening on (\S+)")
_SERVING = health_pb2.HealthCheckResponse.SERVING
_ANYTHING = health_pb2.HealthCheckRequest()
_START_S = 120.0
_RESET_PEAK = "5"  # proc_pid_clear_refs(5)


@dataclass(frozen=True, slots=True)
class ClipServer(Running):
    """A server that answers at `address`, `start_s` seconds after it was started."""

    process: subprocess.Popen[bytes]

    def resident_mb(self) -> float:
        """Memory of all its processes that is resident now, MB of 10^6 bytes."""
        return self._status("VmRSS")

    def peak_mb(self) -> float:
        """The sum of the most that each had resident since `forget_peak`."""
        return self._status("VmHWM")

    def forget_peak(self) -> None:
        """Starts the peaks anew, from what is resident now."""
        for pid in descendants(self.pid):
            Path(f"/proc/{pid}/clear_refs").write_text(_RESET_PEAK)

    def has_ended(self) -> bool:
        return self.process.poll() is not None

    def _status(self, key: str) -> float:
        return sum(_status(pid, key) for pid in descendants(self.pid))


def _status(pid: int, key: str) -> float:
    lines = Path(f"/proc/{pid}/status").read_text().splitlines()
    return next(int(line.split()[1]) for line in lines if line.startswith(key)) * 1024 / 1e6


@contextmanager
def clip_server(settings: Mapping[str, str] | None = None) -> Iterator[ClipServer]:
    """Runs a server with `FOMOFEED_CLIP_` settings; it remembers nothing between calls.

    Gives it once health says SERVING.
    """
    own = {"CACHE_BYTES": "0", "METRICS_PORT": "0", "PORT": "0", **(settings or {})}
    variables = {f"FOMOFEED_CLIP_{name}": value for name, value in own.items()}
    began = time.perf_counter()
    process = subprocess.Popen(
        [sys.executable, "-m", "services.clip"],
        env={**os.environ, **variables},
        stderr=subprocess.PIPE,
    )
    assert process.stderr is not None
    drain = threading.Thread(target=process.stderr.read, daemon=True)
    try:
        lines = list[bytes]()
        for line in process.stderr:
            lines.append(line)
            if found := _LISTENING.search(line):
                break
        else:
            raise SystemExit(f"the clip server ended:\n{b''.join(lines).decode()}")
        drain.start()  # a full pipe would stop the server
        address = found[1].decode()
        _wait(address)
        yield ClipServer(address, process.pid, time.perf_counter() - began, process)
    finally:
        process.kill()
        process.wait()
        if drain.is_alive():
            drain.join()
        process.stderr.close()


def _wait(address: str) -> None:
    """Returns when the server says SERVING; raises `SystemExit` when it does not."""
    end = time.monotonic() + _START_S
    with grpc.insecure_channel(address) as channel:
        stub = health_pb2_grpc.HealthStub(channel)
        while time.monotonic() < end:
            with suppress(grpc.RpcError):
                if stub.Check(_ANYTHING).status == _SERVING:  # type: ignore[attr-defined]
                    return
            time.sleep(0.01)
    raise SystemExit(f"the clip server at {address} does not serve")
