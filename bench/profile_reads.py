"""How fast does the profile service answer, with very much stored? 4 minutes.

`python bench/profile_reads.py` writes docs/bench/profile_reads.md: it builds a database of
`--stored` events of `--users` users (`bench/profile_bulk.py`, checked against the store's own
tables), starts the server over it, and asks for random profiles, alone and while a stream brings
events. Each row is measured in rounds, since a machine that others share has slow seconds: the one
counts in which calls that read nothing were disturbed least.
"""

import argparse
import asyncio
import os
import time
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import grpc
import numpy as np
from grpc_health.v1 import health_pb2, health_pb2_grpc

from bench.profile_bulk import EVENTS_A_MESSAGE, draw, fill, is_as_ingested
from bench.stand_ins.profile_server import requests_of, server
from fomofeed.profile.v1 import profile_service_pb2 as pb
from fomofeed.profile.v1 import profile_service_pb2_grpc as pb_grpc
from fomofeed.type.v1 import type_pb2
from serving.request import LEDGER_KEY
from serving.rpc.channels import open_channel

REPORT = Path("docs/bench/profile_reads.md")
CASES = ((1, 0), (1, 5_000), (1, 20_000), (16, 0), (16, 5_000))  # callers, events/s that come
ROUNDS = 8
PERCENTILES = (50, 99, 99.9)
KINDS = ("reads", "inside", "empty")
PATIENCE_S = 30.0


async def paced(requests: list[pb.IngestEventsRequest], rate: int) -> Any:
    """Takes messages out of the list at `rate` events a second, or as fast as the store does."""
    start, number = time.perf_counter(), 0
    while requests:
        await asyncio.sleep(start + number * EVENTS_A_MESSAGE / rate - time.perf_counter())
        number += 1
        yield requests.pop()


class Reader:
    """A caller who asks for random profiles one after the other, and after each for nothing.

    Latencies are in ms. An empty call, of health, tells what the machine and gRPC alone take.
    """

    def __init__(self, channel: grpc.aio.Channel, rng: np.random.Generator, users: int) -> None:
        self._profiles: Any = pb_grpc.ProfileServiceStub(channel)
        self._health: Any = health_pb2_grpc.HealthStub(channel)
        self._rng = rng
        self._users = users
        self.reads: list[float] = []
        self.inside: list[float] = []
        self.empty: list[float] = []

    async def run(self, until: float) -> None:
        while time.perf_counter() < until:
            start = time.perf_counter()
            call = await self._read()
            read = time.perf_counter()
            await self._health.Check(health_pb2.HealthCheckRequest())
            self.reads.append((read - start) * 1000)
            self.empty.append((time.perf_counter() - read) * 1000)
            self.inside.append(await inside_ms(call))

    async def _read(self) -> Any:
        user_id = int(self._rng.integers(1, self._users + 1))
        call = self._profiles.GetUserProfile(pb.GetUserProfileRequest(user_id=user_id))
        try:
            await call
        except grpc.aio.AioRpcError as error:
            if error.code() is not grpc.StatusCode.NOT_FOUND:  # a user without any event
                raise
        return call


async def inside_ms(call: Any) -> float:
    """How long the server had a call, by the ledger in its trailers."""
    (content,) = (value for key, value in await call.trailing_metadata() if key == LEDGER_KEY)
    ledger = type_pb2.Ledger.FromString(content)
    parts = ("queue", "preprocess", "compute", "postprocess", "other")
    total_us: int = sum(getattr(ledger, f"{part}_us") for part in parts)
    return total_us / 1000


async def measure(
    channel: grpc.aio.Channel, options: argparse.Namespace, callers: int, rate: int
) -> str:
    """Reads while events come; returns a row of the table."""
    rng = np.random.default_rng([2, callers, rate])
    traffic = draw(rng, options.users, int(rate * options.seconds))
    left = requests_of(traffic.messages(f"while-{callers}-{rate}"))
    count, feeding = len(left), None
    if rate:
        stub: Any = pb_grpc.ProfileServiceStub(channel)
        feeding = asyncio.ensure_future(stub.IngestEvents(paced(left, rate)))
    rounds = [await read(channel, rng, options, callers) for _ in range(ROUNDS)]
    if feeding is not None:
        feeding.cancel()
    count_s = options.seconds
    cells = [f"{callers}", f"{(count - len(left)) * EVENTS_A_MESSAGE / count_s:,.0f}"]
    cells.append(f"{sum(len(one['reads']) for one in rounds) / count_s:,.0f}")
    calmest = min(range(ROUNDS), key=lambda number: np.percentile(rounds[number]["empty"], 99))
    for kind in KINDS:
        found = np.array([np.percentile(one[kind], PERCENTILES) for one in rounds])
        cells += _shown(found, calmest)
    return f"| {' | '.join(cells)} |"


async def read(
    channel: grpc.aio.Channel, rng: np.random.Generator, options: argparse.Namespace, callers: int
) -> dict[str, np.ndarray]:
    """One round: all latencies of all callers, by kind, in ms."""
    until = time.perf_counter() + options.seconds / ROUNDS
    readers = [Reader(channel, rng, options.users) for _ in range(callers)]
    await asyncio.gather(*(reader.run(until) for reader in readers))
    return {kind: np.concatenate([getattr(r, kind) for r in readers]) for kind in KINDS}


def _shown(rounds: np.ndarray, calmest: int) -> list[str]:
    """Percentiles (rounds, 3) as cells: of the calmest round, and from the least to the most."""
    told = zip(rounds[calmest], rounds.min(axis=0), rounds.max(axis=0), strict=True)
    return [f"{own:.2f} ({least:.1f}–{most:.1f})" for own, least, most in told]


async def table(options: argparse.Namespace, database: Path) -> list[str]:
    lines = [
        "| callers | events/s | reads/s | p50 ms | p99 ms | p99.9 ms"
        " | in the server p50 ms | p99 ms | p99.9 ms"
        " | empty p50 ms | empty p99 ms | empty p99.9 ms |"
    ]
    lines.append(f"|{' --- |' * 12}")
    with server(str(database)) as (target, _):
        async with open_channel(target) as channel:
            await asyncio.wait_for(channel.channel_ready(), PATIENCE_S)
            for callers, rate in CASES:
                lines.append(await measure(channel, options, callers, rate))
                print(lines[-1], flush=True)
    return lines


READING = (
    "",
    "A read touches one row and at most 168 cells, whatever is stored (counted, not timed, in",
    "`tests/profile/sqlite/test_sqlite_cost.py`). Callers and the stream are one more process on",
    "the same cores. Every message is flushed before it is acknowledged; one of 1,000 events is",
    "checked, summed up and written in some 20 ms of the server's processor, on other threads than",
    "a read's: what a read waits for is the interpreter and the core. After each read its caller",
    "makes an *empty* call, of health, which reads nothing: what that takes, gRPC, the machine and",
    "whatever else runs on it take alone. *In the server* is by the ledger of each answer: from",
    "the request's arrival in Python to its answer's bytes. Each row has",
    f"{ROUNDS} rounds: a cell is of the one whose empty calls had the lowest p99, and in brackets",
    "from the least to the most of all.",
)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--users", type=int, default=100_000)
    parser.add_argument("--stored", type=int, default=10_000_000)
    parser.add_argument("--seconds", type=float, default=32.0, help="of reading, for each row")
    options = parser.parse_args()
    if not is_as_ingested():
        raise SystemExit("the bulk fill differs from what ingesting leaves")
    with TemporaryDirectory() as folder:
        database = Path(folder, "stored.sqlite")
        start = time.perf_counter()
        fill(database, draw(np.random.default_rng(2), options.users, options.stored))
        os.sync()  # or the disk still writes while the first row is measured
        size_mib = database.stat().st_size / 2**20
        print(f"filled in {time.perf_counter() - start:.0f} s, {size_mib:,.0f} MiB", flush=True)
        rows = asyncio.run(table(options, database))
    head = (
        f"{options.stored:,} events of {options.users:,} users stored, {size_mib:,.0f} MiB; random"
        f" profiles by gRPC, {os.cpu_count()} cores, load average {os.getloadavg()[0]:.1f}."
    )
    lines = ["# Reading profiles", "", head, "", *rows, *READING]
    REPORT.write_text("\n".join(lines) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
