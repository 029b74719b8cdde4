"""What does a tiny request cost, and what would make it cheaper? Writes docs/bench/tiny_calls.md.

`python bench/tiny_calls.py` asks a bare server of the no-op model with 32 requests in flight: one
call each, many on one stream, many on several streams, and many rows in one message; then two such
servers on one port. A figure is the CPU of the server's processes per request, all threads, in
turns and short slices: it says what one core could answer, whatever the client takes beside it.
Where `h2load` is installed (Debian: nghttp2-client) a client that costs next to nothing says what
one process and two answer in fact.
"""

import argparse
import asyncio
import os
import re
import shutil
import statistics
import struct
import subprocess
import tempfile
import time
from collections.abc import Callable, Coroutine
from contextlib import ExitStack
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import grpc
import numpy as np

from bench.rivals.models import NOOP, write_repository
from bench.rivals.processes import Command, Running, machine, running
from bench.rivals.streams import SERVICE
from cluster.load.client import fine_loop
from cluster.load.summary import spread
from inference import grpc_service_pb2 as pb

IN_FLIGHT = 32
REPORT = Path("docs/bench/tiny_calls.md")
_WIDTH = 32  # of a row
_H2LOAD_RATE = re.compile(r"finished in .*?, ([\d.]+) req/s")

Client = Callable[[str, float], Coroutine[Any, Any, int]]
"""Asks an address for some seconds; returns how many requests were answered."""


def request_of(rows: int) -> bytes:
    """Returns a request of the no-op model."""
    request = pb.ModelInferRequest(model_name=NOOP)
    request.inputs.add(name="x", datatype="FP32", shape=[rows, _WIDTH])
    request.raw_input_contents.append(np.zeros((rows, _WIDTH), np.float32).tobytes())
    return request.SerializeToString()


def unary(method: str, rows: int = 1, channels: int = 1) -> Client:
    """Callers that make a call for each request, on so many connections."""
    request = request_of(rows)

    async def ask(address: str, seconds: float) -> int:
        answered, end = 0, time.monotonic() + seconds

        async def caller(call: Any) -> None:
            nonlocal answered
            while time.monotonic() < end:
                await call(request)
                answered += 1

        async with connections(address, channels) as opened:
            calls: list[Any] = [channel.unary_unary(f"/{SERVICE}/{method}") for channel in opened]
            await asyncio.gather(*(caller(calls[n % channels]) for n in range(IN_FLIGHT)))
        return answered

    return ask


def stream(method: str, streams: int = 1) -> Client:
    """So many streams on one connection, each with its share of the requests in flight."""
    request = request_of(1)

    async def ask(address: str, seconds: float) -> int:
        answered, end = 0, time.monotonic() + seconds

        async def one(channel: grpc.aio.Channel) -> None:
            nonlocal answered
            call: Any = channel.stream_stream(f"/{SERVICE}/{method}")()
            waiting = IN_FLIGHT // streams
            for _ in range(waiting):
                await call.write(request)
            while waiting:
                await call.read()
                answered += 1
                if time.monotonic() < end:
                    await call.write(request)
                else:
                    waiting -= 1
            await call.done_writing()

        async with connections(address, 1) as (channel,):
            await asyncio.gather(*(one(channel) for _ in range(streams)))
        return answered

    return ask


class connections:  # noqa: N801  # reads as a function
    """Channels that share no connection."""

    def __init__(self, address: str, count: int) -> None:
        options = [("grpc.use_local_subchannel_pool", 1)]
        self._channels = [grpc.aio.insecure_channel(address, options=options) for _ in range(count)]

    async def __aenter__(self) -> list[grpc.aio.Channel]:
        return self._channels

    async def __aexit__(self, *_: object) -> None:
        for channel in self._channels:
            await channel.close()


@dataclass(slots=True)
class Way:
    """One way to ask, and what its slices showed."""

    name: str
    client: Client
    rows: int = 1  # of a request
    processes: int = 1  # of the server
    rates: list[float] = field(default_factory=list)
    cpu_us: list[float] = field(default_factory=list)

    def run(self, server: Running, seconds: float) -> None:
        """Measures one slice, after a short one that warms up."""
        with asyncio.Runner(loop_factory=fine_loop) as runner:
            runner.run(self.client(server.address, 0.1))
            cpu, start = server.cpu_s(), time.monotonic()
            answered = runner.run(self.client(server.address, seconds))
            wall = time.monotonic() - start
        self.rates.append(answered / wall)
        self.cpu_us.append((server.cpu_s() - cpu) / max(1, answered) * 1e6)


def ways() -> list[Way]:
    """Returns everything that is compared; the first is what the others stand beside."""
    return [
        Way("one call a request", unary("ParseUnary")),
        Way("one stream, answered in order", stream("ParseStream")),
        Way("4 streams, answered in order", stream("ParseStream", 4)),
        Way("one stream, a task a request", stream("TasksStream")),
        Way("32 rows a call", unary("ParseUnary", 32), rows=32),
        Way("8 connections", unary("ParseUnary", channels=8)),
        Way("8 connections, 2 processes", unary("ParseUnary", channels=8), processes=2),
        Way("unread: one call a request", unary("NullUnary")),
        Way("unread: one stream", stream("NullStream")),
    ]


def h2load(server: Running, seconds: float) -> float:
    """Requests a second that the C client sees, over 8 connections of 4 in flight."""
    body = request_of(1)
    with tempfile.NamedTemporaryFile() as file:
        file.write(b"\0" + struct.pack(">I", len(body)) + body)
        file.flush()
        headers = ["-H", "content-type: application/grpc", "-H", "te: trailers"]
        load = ["-c", "8", "-m", "4", "-D", str(max(1, round(seconds))), "-d", file.name]
        url = f"http://{server.address}/{SERVICE}/ParseUnary"
        told = subprocess.check_output(["h2load", *load, *headers, url], text=True)
    found = _H2LOAD_RATE.search(told)
    return float(found[1]) if found else 0.0


def table(compared: list[Way]) -> list[str]:
    """Returns the lines of the table."""
    first = statistics.median(compared[0].cpu_us)
    lines = ["| way | rows/s | CPU µs/row | noise | rows a core could answer | × cheaper |"]
    lines.append("| --- " * 6 + "|")
    for way in compared:
        cpu = statistics.median(way.cpu_us) / way.rows
        rate = statistics.median(way.rates) * way.rows
        lines.append(
            f"| {way.name} | {rate:,.0f} | {cpu:.0f} | ± {spread(way.cpu_us):.0%} "
            f"| {1e6 / cpu:,.0f} | {first / cpu:.2f} |"
        )
    return [*lines, ""]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--seconds", type=float, default=1.0, help="of each slice")
    parser.add_argument("--rounds", type=int, default=5, help="slices of each way")
    parser.add_argument("--out", type=Path, default=REPORT)
    options = parser.parse_args()
    compared, lines = ways(), ["# Tiny calls", "", f"{machine()}; {os.cpu_count()} cores.", ""]
    with tempfile.TemporaryDirectory() as folder, ExitStack() as stack:
        file = write_repository(Path(folder), [NOOP])[NOOP]
        servers = {
            count: stack.enter_context(
                running(
                    Command(
                        "bench.rivals.streams",
                        [str(file), "--name", NOOP, "--processes", str(count)],
                    ),
                    NOOP,
                )
            )
            for count in (1, 2)
        }
        for _ in range(options.rounds):
            for way in compared:
                way.run(servers[way.processes], options.seconds)
        lines += table(compared)
        if shutil.which("h2load"):
            rates: dict[int, list[float]] = {1: [], 2: []}
            for _ in range(options.rounds):
                for count, server in servers.items():
                    rates[count].append(h2load(server, options.seconds))
            lines += [
                f"- h2load, {count} process{'es' * (count > 1)}: "
                f"{statistics.median(seen):,.0f} calls/s (± {spread(seen):.0%})"
                for count, seen in rates.items()
            ]
    options.out.write_text("\n".join([*lines, ""]), encoding="utf-8")
    print("\n".join(lines))


if __name__ == "__main__":
    main()
