"""PostgreSQL stops, freezes, locks and is crowded; callers hear of it in time, and it passes."""

import asyncio
import os
import signal
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, contextmanager
from typing import Any

import grpc
import pytest

from bench.stand_ins.real_postgres import RealPostgres
from fomofeed.profile.v1 import profile_service_pb2 as pb
from fomofeed.profile.v1 import profile_service_pb2_grpc as pb_grpc
from services.profile.config import ProfileConfig
from services.profile.opening import open_store
from services.profile.servicer import ProfileServicer
from serving.errors import NotReadyError
from serving.rpc.channels import status_of
from tests.profile.profile_events import message, post

asyncpg = pytest.importorskip("asyncpg")
pytestmark = pytest.mark.extras
Stub = Any  # the generated stub: its type is only known to the checker
ASK = pb.GetUserProfileRequest(user_id=1)


@pytest.fixture
def url(real_postgres: RealPostgres) -> str:
    return real_postgres.new_database()


@pytest.fixture
async def profiles(serving_on: Any, url: str) -> AsyncIterator[Stub]:
    """A service with two connections, and user 1 in it."""
    config = ProfileConfig(url, seed_demo_users=False, connection_count=2)
    async with open_store(config) as store:
        await store.ingest(message("first", post(1, 1)))
        running = await serving_on(
            [(pb_grpc.add_ProfileServiceServicer_to_server, ProfileServicer(store))]
        )
        yield pb_grpc.ProfileServiceStub(running.channel)


@asynccontextmanager
async def users_locked(url: str) -> AsyncIterator[Any]:
    """Another program holds the users; yields a connection that looks on."""
    holder, onlooker = await asyncpg.connect(url), await asyncpg.connect(url)
    try:
        async with holder.transaction():
            await holder.execute("LOCK TABLE users IN ACCESS EXCLUSIVE MODE")
            yield onlooker
    finally:
        await holder.close()
        await onlooker.close()


@contextmanager
def frozen(server: RealPostgres) -> Iterator[None]:
    """Stops every process of the server as a stalled disk would, and lets them go on."""
    processes = [server.pid, *children(server.pid)]
    for pid in processes:
        os.kill(pid, signal.SIGSTOP)
    try:
        yield
    finally:
        for pid in processes:
            os.kill(pid, signal.SIGCONT)


def children(pid: int) -> list[int]:
    with open(f"/proc/{pid}/task/{pid}/children", encoding="ascii") as file:  # noqa: PTH123
        return [int(child) for child in file.read().split()]


async def failure(call: Any) -> grpc.aio.AioRpcError:
    with pytest.raises(grpc.aio.AioRpcError) as caught:
        await call
    return caught.value


def ingest(stub: Stub, request_id: str) -> Any:
    request = pb.IngestEventsRequest(request_id=request_id, events=[post(1, 2)])
    return stub.IngestEvents(iter([request]), timeout=10.0)


async def test_a_lost_database_is_unavailable_and_comes_back_without_a_restart(
    profiles: Stub, real_postgres: RealPostgres
) -> None:
    await profiles.GetUserProfile(ASK)
    real_postgres.stop()
    try:
        for call in (profiles.GetUserProfile(ASK, timeout=10.0), ingest(profiles, "second")):
            error = await failure(call)
            assert error.code() is grpc.StatusCode.UNAVAILABLE
            assert error.details() == "server is without its database"
            assert [d.type_url.rpartition(".")[2] for d in status_of(error).details] == [
                "ErrorInfo",
                "RetryInfo",
            ]
    finally:
        real_postgres.start()
    assert (await profiles.GetUserProfile(ASK)).user.post_count == 1
    assert (await ingest(profiles, "second")).accepted_count == 1


async def test_the_callers_deadline_ends_the_statement_too(profiles: Stub, url: str) -> None:
    async with users_locked(url) as onlooker:
        error = await failure(profiles.GetUserProfile(ASK, timeout=0.3))
        assert error.code() is grpc.StatusCode.DEADLINE_EXCEEDED
        waiting = (
            "SELECT count(*) FROM pg_stat_activity WHERE wait_event_type = 'Lock'"
            " AND datname = current_database()"
        )
        async with asyncio.timeout(30):
            while await onlooker.fetchval(waiting):
                pass  # the server hears of it a moment after the caller
    assert (await profiles.GetUserProfile(ASK)).user.post_count == 1


async def test_a_caller_without_a_deadline_does_not_wait_for_ever(url: str) -> None:
    config = ProfileConfig(url, seed_demo_users=False, max_statement_s=0.3)
    async with open_store(config) as store, users_locked(url):
        with pytest.raises(NotReadyError, match="waiting for its database"):
            await store.profiles([1])


async def test_a_frozen_database_holds_nobody_beyond_the_deadline(
    profiles: Stub, real_postgres: RealPostgres
) -> None:
    await profiles.GetUserProfile(ASK)
    with frozen(real_postgres):
        calls = [profiles.GetUserProfile(ASK, timeout=0.5) for _ in range(6)]
        for call in calls:
            assert (await failure(call)).code() is grpc.StatusCode.DEADLINE_EXCEEDED
    assert (await profiles.GetUserProfile(ASK, timeout=10.0)).user.post_count == 1


async def test_a_crowd_shares_a_bounded_number_of_connections(profiles: Stub, url: str) -> None:
    async with users_locked(url) as onlooker:
        calls = [asyncio.ensure_future(profiles.GetUserProfile(ASK)) for _ in range(50)]
        ours = (
            "SELECT count(*) FROM pg_stat_activity WHERE application_name = 'fomofeed-profile'"
            " AND datname = current_database()"
        )
        blocked = f"{ours} AND wait_event_type = 'Lock'"
        async with asyncio.timeout(30):
            while await onlooker.fetchval(blocked) < 2:
                pass  # until both have begun
        assert await onlooker.fetchval(ours) == 2
    answers = await asyncio.gather(*calls)
    assert [answer.user.post_count for answer in answers] == [1] * 50


async def test_many_streams_that_write_the_same_users_do_not_block_each_other(
    profiles: Stub,
) -> None:
    users = range(1, 9)
    requests = []
    for k in range(20):
        events = [post(user, 100 + k) for user in (users if k % 2 else reversed(users))]
        requests.append(pb.IngestEventsRequest(request_id=f"crowd-{k}", events=events))
    await asyncio.gather(*(profiles.IngestEvents(iter([one])) for one in requests))
    answer = await profiles.BatchGetUserProfiles(pb.BatchGetUserProfilesRequest(user_ids=users))
    counts = [result.profile.post_count for result in answer.results]
    assert counts == [21] + [20] * 7


@pytest.mark.parametrize("is_refused", [True, False])
async def test_a_database_that_cannot_be_opened_stops_the_start_in_words(
    url: str, is_refused: bool
) -> None:
    missing = url.replace("?", "_that_is_not_there?")
    wrong = "postgresql://nobody:secret@127.0.0.1:1/none" if is_refused else missing
    with pytest.raises(OSError, match="profile database cannot be opened: ") as caught:
        async with open_store(ProfileConfig(wrong)):
            pass
    assert "secret" not in str(caught.value)
