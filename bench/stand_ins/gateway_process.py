"""A gateway and the null models as processes of their own, and what the kernel and they tell."""

import os
import re
import socket
import subprocess
import sys
from collections import Counter, deque
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from threading import Thread
from urllib.request import urlopen

from prometheus_client.parser import text_string_to_metric_families


@dataclass(frozen=True, slots=True)
class Gateway:
    """A gateway that runs as a process of its own."""

    target: str
    pid: int
    metrics_port: int

    def cpu_s(self) -> float:
        """CPU time that it has used, user and system, in s."""
        fields = Path(f"/proc/{self.pid}/stat").read_text().rpartition(")")[2].split()
        return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")

    def wire(self) -> "Wire":
        """What it has sent so far."""
        with urlopen(f"http://127.0.0.1:{self.metrics_port}/metrics") as answer:
            text = answer.read().decode()
        values: Counter[str] = Counter()
        own: Counter[str] = Counter()  # calls of each node, coalesced or not
        for family in text_string_to_metric_families(text):
            for sample in family.samples:
                values[sample.name] += int(sample.value)
                if sample.name == "fomofeed_gateway_node_duration_seconds_count":
                    own[sample.labels["node"]] += int(sample.value)
                if sample.name == "fomofeed_gateway_batch_rows_count":
                    own[sample.labels["node"]] = 0
        batches, rows = (values[f"fomofeed_gateway_batch_rows_{n}"] for n in ("count", "sum"))
        return Wire(own.total() + batches, batches, rows)


@dataclass(frozen=True, slots=True)
class Wire:
    """Counts: calls over the wire, those of coalesced nodes, and the requests in these."""

    calls: int
    batches: int
    rows: int

    def since(self, before: "Wire") -> "Wire":
        return Wire(
            self.calls - before.calls, self.batches - before.batches, self.rows - before.rows
        )


@contextmanager
def null_services() -> Iterator[str]:
    """Runs the null models; gives their target."""
    command = [sys.executable, "-m", "bench.stand_ins.null_models"]
    with subprocess.Popen(
        command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    ) as process:
        assert process.stdout is not None
        assert process.stdin is not None
        yield f"127.0.0.1:{process.stdout.readline().strip()}"
        process.stdin.close()


@contextmanager
def gateway(target: str, graphs: Path) -> Iterator[Gateway]:
    """Runs a gateway before `target`."""
    services = ("PROFILE", "CLIP", "TIMING", "RANKER", "MODERATION", "TEXT")
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        metrics_port = free.getsockname()[1]
    settings = {f"FOMOFEED_GATEWAY_{name}": target for name in services}
    settings |= {"FOMOFEED_GATEWAY_GRAPHS": str(graphs), "FOMOFEED_GATEWAY_LAME_DUCK_S": "0"}
    process = subprocess.Popen(
        [sys.executable, "-m", "services.gateway"],
        env=os.environ | settings | {"FOMOFEED_GATEWAY_METRICS_PORT": str(metrics_port)},
        stderr=subprocess.PIPE,
        text=True,
    )
    assert process.stderr is not None
    try:
        found = re.search(r"listening on (\S+)", "".join(_until(process.stderr, "listening on")))
        assert found is not None
        reader = Thread(target=deque, args=(process.stderr, 0))  # a full pipe would stop it
        reader.start()
        yield Gateway(found.group(1), process.pid, metrics_port)
    finally:
        process.terminate()
        process.wait()
    reader.join()


def _until(lines: Iterator[str], text: str) -> Iterator[str]:
    for line in lines:
        yield line
        if text in line:
            return
