"""How fast does the profile service take and give? Writes docs/bench/profile_store.md.

`python bench/profile_store.py` first ingests simulated traffic (messages of 1,000 events of very
many users) into fresh SQLite databases, beside what the same disk and the same SQLite can do at
all. Then it builds a database of `--stored` events of `--users` users (`bench/profile_bulk.py`),
starts the server over it, and asks for random profiles while a stream brings events.
"""

import argparse
import asyncio
import os
import re
import sqlite3
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import grpc
import numpy as np

from bench.profile_bulk import EVENTS_A_MESSAGE, Traffic, draw, fill, is_as_ingested
from fomofeed.profile.v1 import profile_service_pb2 as pb
from fomofeed.profile.v1 import profile_service_pb2_grpc as pb_grpc
from services.profile.sqlite.store import Store
from serving.rpc.channels import open_channel

REPORT = Path("docs/bench/profile_store.md")
FLUSHES = 300
BLOCK = b"\0" * 65_536  # about what a message of 1,000 events adds to the write-ahead log
STREAMS = 4
RATES = (0, 5_000, 20_000)  # events/s that come while profiles are read
PATIENCE_S = 30.0


@dataclass(frozen=True, slots=True)
class Spent:
    """Time on the wall and on the processor for a number of events."""

    events: int
    wall_s: float
    cpu_s: float

    def row(self, name: str, best: "Spent") -> str:
        """A row of the table; `best` is what no store can exceed."""
        rate = self.events / self.wall_s
        share = rate * best.wall_s / best.events
        return f"| {name} | {rate:,.0f} | {self.events / self.cpu_s:,.0f} | {share:.2f} |"


def measured(work: Callable[[], None], events: int) -> Spent:
    start, start_cpu = time.perf_counter(), time.process_time()
    work()
    return Spent(events, time.perf_counter() - start, time.process_time() - start_cpu)


def flushes_per_second(folder: Path) -> float:
    """How often this disk takes a block of the log for certain."""
    with (folder / "flushed").open("wb", buffering=0) as file:
        start = time.perf_counter()
        for _ in range(FLUSHES):
            file.write(BLOCK)
            os.fdatasync(file.fileno())
        return FLUSHES / (time.perf_counter() - start)


def only_the_rows(path: Path, traffic: Traffic) -> Spent:
    """The same events into a table without any index, a flush for each 1,000, and nothing else."""
    messages = traffic.messages()
    with closing(sqlite3.connect(path, isolation_level=None)) as connection:
        connection.execute("PRAGMA journal_mode = WAL")
        connection.execute("PRAGMA synchronous = FULL")
        connection.execute(
            "CREATE TABLE events (a INTEGER, b INTEGER, c INTEGER, d INTEGER, e REAL)"
        )

        def work() -> None:
            for message in messages:
                connection.execute("BEGIN")
                connection.executemany("INSERT INTO events VALUES (?, ?, ?, ?, ?)", message.actions)
                connection.execute("COMMIT")

        return measured(work, len(traffic))


def into_the_store(path: Path, traffic: Traffic, *, is_synced: bool) -> Spent:
    messages = traffic.messages()
    with closing(Store(path, is_synced=is_synced)) as store:

        def work() -> None:
            for message in messages:
                store.ingest([message])

        return measured(work, len(traffic))


def requests_of(traffic: Traffic, name: str) -> list[pb.IngestEventsRequest]:
    requests = []
    for number, message in enumerate(traffic.messages()):
        request = pb.IngestEventsRequest(request_id=f"{name}-{number}")
        for action in message.actions:
            event = request.events.add(
                kind=action.kind, user_id=action.user_id, post_id=action.post_id
            )
            event.event_time.FromMicroseconds(action.event_us)
        requests.append(request)
    return requests


@contextmanager
def server(database: Path) -> Iterator[tuple[str, int]]:
    """Runs the service over a database; yields its address and its process."""
    environment = {
        **os.environ,
        "FOMOFEED_PROFILE_DATABASE": str(database),
        "FOMOFEED_PROFILE_SEED_DEMO_USERS": "false",
        "FOMOFEED_PROFILE_LAME_DUCK_S": "0",
    }
    command = [sys.executable, "-m", "services.profile"]
    with subprocess.Popen(command, env=environment, stderr=subprocess.PIPE, text=True) as process:
        assert process.stderr
        try:
            found = next(
                filter(None, (re.search(r"listening on (\S+)", x) for x in process.stderr))
            )
            yield found[1], process.pid
        finally:
            process.terminate()


def cpu_seconds(pid: int) -> float:
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


async def through_the_server(database: Path, traffic: Traffic) -> Spent:
    """By gRPC, on `STREAMS` streams at once; the processor time is the server's."""
    requests = requests_of(traffic, "stream")
    with server(database) as (target, pid):
        async with open_channel(target) as channel:
            await asyncio.wait_for(channel.channel_ready(), PATIENCE_S)
            stub = pb_grpc.ProfileServiceStub(channel)
            start, start_cpu = time.perf_counter(), cpu_seconds(pid)
            parts = [requests[k::STREAMS] for k in range(STREAMS)]
            answers = await asyncio.gather(*(stub.IngestEvents(iter(part)) for part in parts))
            wall_s, cpu_s = time.perf_counter() - start, cpu_seconds(pid) - start_cpu
    assert sum(a.accepted_count + a.duplicate_count for a in answers) == len(traffic)
    return Spent(len(traffic), wall_s, cpu_s)


async def paced(requests: list[pb.IngestEventsRequest], rate: int) -> Any:
    """Takes messages out of the list at `rate` events a second, or as fast as the store does."""
    start, number = time.perf_counter(), 0
    while requests:
        await asyncio.sleep(start + number * EVENTS_A_MESSAGE / rate - time.perf_counter())
        number += 1
        yield requests.pop()


async def read_while_ingesting(
    stub: Any, rng: np.random.Generator, users: int, rate: int, seconds: float
) -> tuple[float, list[float]]:
    """Returns events/s that were taken, and the latencies in ms of one caller's reads."""
    feeding, left = None, requests_of(draw(rng, users, int(rate * seconds)), f"while-{rate}")
    count = len(left)
    if rate:
        feeding = asyncio.ensure_future(stub.IngestEvents(paced(left, rate)))
    latencies = []
    end = time.perf_counter() + seconds
    while time.perf_counter() < end:
        request = pb.GetUserProfileRequest(user_id=int(rng.integers(1, users + 1)))
        start = time.perf_counter()
        try:
            await stub.GetUserProfile(request)
        except grpc.aio.AioRpcError as error:
            if error.code() is not grpc.StatusCode.NOT_FOUND:  # a user without any event
                raise
        latencies.append((time.perf_counter() - start) * 1000)
    if feeding is not None:
        feeding.cancel()
    return (count - len(left)) * EVENTS_A_MESSAGE / seconds, latencies


async def read_table(options: argparse.Namespace, folder: Path) -> list[str]:
    rng = np.random.default_rng(2)
    database = folder / "stored.sqlite"
    start = time.perf_counter()
    fill(database, draw(rng, options.users, options.stored))
    size_mib = database.stat().st_size / 2**20
    print(f"filled in {time.perf_counter() - start:.0f} s, {size_mib:,.0f} MiB", flush=True)
    lines = [
        f"{options.stored:,} events of {options.users:,} users stored, {size_mib:,.0f} MiB."
        " One caller asks for random profiles over gRPC, one after the other, while one stream"
        " brings events (synced).",
        "",
        "| events/s offered | taken | reads | p50 ms | p99 ms | p99.9 ms | max ms |",
        f"|{' --- |' * 7}",
    ]
    with server(database) as (target, _):
        async with open_channel(target) as channel:
            await asyncio.wait_for(channel.channel_ready(), PATIENCE_S)
            stub = pb_grpc.ProfileServiceStub(channel)
            for rate in RATES:
                taken, found = await read_while_ingesting(
                    stub, rng, options.users, rate, options.seconds
                )
                cells = " | ".join(f"{x:.2f}" for x in np.percentile(found, (50, 99, 99.9, 100)))
                lines.append(f"| {rate:,} | {taken:,.0f} | {len(found):,} | {cells} |")
                print(lines[-1], flush=True)
    return lines


def ingest_table(options: argparse.Namespace, folder: Path) -> list[str]:
    traffic = draw(np.random.default_rng(1), options.users, options.events)
    flushes = flushes_per_second(folder)
    best = only_the_rows(folder / "rows.sqlite", traffic)
    rows = {
        "SQLite alone: rows into a bare table, synced": best,
        "the store, synced": into_the_store(folder / "a.sqlite", traffic, is_synced=True),
        "the store, not synced": into_the_store(folder / "b.sqlite", traffic, is_synced=False),
        f"the server, {STREAMS} streams, synced": asyncio.run(
            through_the_server(folder / "c.sqlite", traffic)
        ),
    }
    lines = [
        f"{options.events:,} events of {options.users:,} users, 1,000 a message, a flush each. The"
        f" disk takes {flushes:,.0f} flushed blocks of {len(BLOCK) // 1024} KiB a second.",
        "",
        "| | events/s | events/CPU s | of SQLite alone |",
        f"|{' --- |' * 4}",
    ]
    lines += [spent.row(name, best) for name, spent in rows.items()]
    print("\n".join(lines), flush=True)
    return lines


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--users", type=int, default=100_000)
    parser.add_argument("--events", type=int, default=300_000, help="that are ingested")
    parser.add_argument("--stored", type=int, default=10_000_000, help="while profiles are read")
    parser.add_argument("--seconds", type=float, default=15.0, help="of reading, for each rate")
    options = parser.parse_args()
    if not is_as_ingested():
        raise SystemExit("the bulk fill differs from what ingesting leaves")
    with TemporaryDirectory() as folder:
        lines = ["# Profile store", "", "## Taking", "", *ingest_table(options, Path(folder))]
        lines += ["", "## Giving", "", *asyncio.run(read_table(options, Path(folder)))]
    REPORT.write_text("\n".join(lines) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
