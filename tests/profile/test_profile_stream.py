"""A stream that breaks, stalls or is very long: what is stored, and what waits in memory."""

import asyncio
import itertools
import re
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import grpc
import pytest

from bench.stand_ins.profile_server import server
from fomofeed.profile.v1 import profile_service_pb2 as pb
from fomofeed.profile.v1 import profile_service_pb2_grpc as pb_grpc
from services.profile.events import Message
from services.profile.profiles import Profile, Stored
from services.profile.servicer import ProfileServicer
from serving.rpc.channels import open_channel
from tests.profile.profile_events import action, facts, post

Stub = Any  # the generated stub: its type is only known to the checker
LONG = 1000  # events
MIB = 2**20


def request(number: int) -> pb.IngestEventsRequest:
    return pb.IngestEventsRequest(request_id=f"m-{number}", events=[post(1, number + 1)])


class GatedStore:
    """A store that takes its time: until `gate` opens, a message waits."""

    def __init__(self) -> None:
        self.gate = asyncio.Event()
        self.begun = asyncio.Event()
        self.waiting = self.most_waiting = 0
        self.request_ids: list[str] = []

    async def ingest(self, message: Message) -> Stored:
        self.begun.set()
        self.waiting += 1
        self.most_waiting = max(self.most_waiting, self.waiting)
        await self.gate.wait()
        self.waiting -= 1
        self.request_ids.append(message.request_id)
        return Stored(message.event_count, 0)

    async def profiles(self, user_ids: Sequence[int]) -> list[Profile | None]:
        return [None for _ in user_ids]

    async def delete(self, user_id: int) -> bool:
        return False

    async def drop_events(self, now_us: int, kept_us: int) -> int:
        return 0


@pytest.fixture
async def gated(serving_on: Any) -> tuple[GatedStore, Stub]:
    store = GatedStore()
    servicer = ProfileServicer(store)
    running = await serving_on([(pb_grpc.add_ProfileServiceServicer_to_server, servicer)])
    return store, pb_grpc.ProfileServiceStub(running.channel)


async def test_a_store_that_stalls_stops_the_stream_and_not_the_server(
    gated: tuple[GatedStore, Stub],
) -> None:
    store, stub = gated
    known = facts(1, "UTC")
    known.user.user_name = "🎉" * 100
    written = 0

    async def messages() -> Any:
        nonlocal written
        for number in range(60):  # 25 MiB
            message = pb.IngestEventsRequest(request_id=f"m-{number}", events=[known] * 1000)
            written += message.ByteSize()
            yield message

    call = asyncio.ensure_future(stub.IngestEvents(messages()))
    await store.begun.wait()
    await asyncio.wait([call], timeout=0.5)  # long enough for far more than the bound
    assert store.most_waiting == 1
    assert written < 8 * MIB, written
    store.gate.set()
    assert (await call).accepted_count == 60_000
    assert store.request_ids == [f"m-{number}" for number in range(60)]
    assert store.most_waiting == 1


async def test_a_stream_that_breaks_off_keeps_what_was_stored_and_is_sent_again_whole(
    profiles: Stub,
) -> None:
    call = profiles.IngestEvents()
    for number in range(3):
        await call.write(request(number))
    await until_posts(profiles, 3)
    call.cancel()
    answer = await profiles.IngestEvents(iter([request(number) for number in range(5)]))
    assert (answer.accepted_count, answer.duplicate_count) == (2, 3)
    assert await post_count(profiles) == 5


async def test_a_malformed_message_ends_the_stream_and_those_before_it_stay(profiles: Stub) -> None:
    bad = pb.IngestEventsRequest(request_id="bad", events=[action(1, 1, weight=-1.0)])
    with pytest.raises(grpc.aio.AioRpcError) as caught:
        await profiles.IngestEvents(iter([request(0), bad, request(1)]))
    assert caught.value.code() is grpc.StatusCode.INVALID_ARGUMENT
    assert await post_count(profiles) == 1


async def test_a_reader_is_answered_while_a_slow_stream_waits_for_its_next_message(
    profiles: Stub,
) -> None:
    call = profiles.IngestEvents()
    await call.write(request(0))
    await until_posts(profiles, 1)  # reads are answered all the while
    await call.write(request(1))
    await call.done_writing()
    assert (await call).accepted_count == 2


async def until_posts(profiles: Stub, count: int) -> None:
    """Waits, 30 s at most, until so many posts were stored: messages arrive in their time."""
    async with asyncio.timeout(30):
        while await post_count(profiles) != count:
            pass


async def post_count(profiles: Stub) -> int:
    ask = pb.BatchGetUserProfilesRequest(user_ids=[1])
    (result,) = (await profiles.BatchGetUserProfiles(ask)).results
    return int(result.profile.post_count)


def peak_bytes(pid: int) -> int:
    """The most memory that a process has had."""
    status = Path(f"/proc/{pid}/status").read_text(encoding="ascii")
    found = re.search(r"VmHWM:\s+(\d+) kB", status)
    assert found
    return int(found[1]) * 1024


@pytest.mark.prove
async def test_a_million_events_in_one_stream_leave_the_servers_memory_flat(database: str) -> None:
    with server(database) as (target, pid):
        async with open_channel(target) as channel:
            await asyncio.wait_for(channel.channel_ready(), 30)
            stub = pb_grpc.ProfileServiceStub(channel)
            first = itertools.islice(map(long_request, itertools.count()), 50)
            await stub.IngestEvents(first)
            before = peak_bytes(pid)
            answer = await stub.IngestEvents(map(long_request, range(1000)))
            assert (answer.accepted_count, answer.duplicate_count) == (950_000, 50_000)
            assert peak_bytes(pid) - before < 32 * MIB


def long_request(number: int) -> pb.IngestEventsRequest:
    events = [action(1 + (number + k) % 5000, 1 + k % 20) for k in range(LONG)]
    return pb.IngestEventsRequest(request_id=f"long-{number}", events=events)
