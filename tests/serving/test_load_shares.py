"""Real servers and real channels: who gets how many calls, and how clients are told."""

import asyncio
import base64
import json
import re
import sys
from collections import Counter
from collections.abc import AsyncIterator, Callable
from contextlib import AsyncExitStack, asynccontextmanager
from pathlib import Path
from typing import Any

import pytest

from fomofeed.profile.v1 import profile_service_pb2 as profile_pb
from fomofeed.profile.v1 import profile_service_pb2_grpc as profile_grpc
from fomofeed.text.v1 import text_service_pb2 as pb
from fomofeed.text.v1 import text_service_pb2_grpc as rpc
from fomofeed.type.v1 import type_pb2
from serving.errors import EngineError
from serving.rpc.channels import open_channel
from serving.rpc.load_report import LOAD_REPORT_KEY
from tests.conftest import RunningServer, running

SERVICE = "fomofeed.text.v1.TextService"
PROFILES = "fomofeed.profile.v1.ProfileService"
BIN = Path(sys.executable).parent
QUICK_S, SLOW_S = 0.004, 0.06
CALLERS = 8


class Writer(rpc.TextServiceServicer):
    """Answers after a while; fails when its draft says so."""

    def __init__(self, delay_s: float = 0.0) -> None:
        self.delay_s = delay_s
        self.calls = 0

    async def GenerateCaption(self, request: Any, context: Any) -> Any:
        self.calls += 1
        await asyncio.sleep(self.delay_s)
        if request.draft == "fail":
            raise EngineError("broken")
        return pb.GenerateCaptionResponse()


class Profiles(profile_grpc.ProfileServiceServicer):
    """Reads all events."""

    async def IngestEvents(self, request_iterator: Any, context: Any) -> Any:
        async for _ in request_iterator:
            pass
        return profile_pb.IngestEventsResponse()


class Replicas:
    """Three servers of which the last is slow, and a channel to all."""

    def __init__(self, writers: list[Writer], stub: "rpc.TextServiceAsyncStub") -> None:
        self.writers, self.stub = writers, stub

    async def call(self, count: int) -> list[float]:
        """Makes calls, some at once; returns the share of each replica."""
        before = Counter({number: one.calls for number, one in enumerate(self.writers)})
        for _ in range(count // CALLERS):
            async with asyncio.TaskGroup() as group:
                for _ in range(CALLERS):
                    group.create_task(self._call())
        return [(one.calls - before[at]) / count for at, one in enumerate(self.writers)]

    async def _call(self) -> None:
        await self.stub.GenerateCaption(pb.GenerateCaptionRequest())

    async def call_until(self, are_right: Callable[[list[float]], bool]) -> None:
        """Calls until the shares are right: some seconds, as weights are renewed once in one."""
        async with asyncio.timeout(30):
            while not are_right(await self.call(12 * CALLERS)):
                pass


@asynccontextmanager
async def three(**config: float) -> AsyncIterator[Replicas]:
    writers = [Writer(QUICK_S), Writer(QUICK_S), Writer(SLOW_S)]
    async with AsyncExitStack() as stack:
        targets = []
        for writer in writers:
            mount = (rpc.add_TextServiceServicer_to_server, writer)
            server = await stack.enter_async_context(running([mount], [SERVICE], **config))
            targets.append(server.target)
        target = "ipv4:" + ",".join(targets)
        channel = await stack.enter_async_context(open_channel(target, health_service=SERVICE))
        replicas = Replicas(writers, rpc.TextServiceStub(channel))
        while not all(writer.calls for writer in writers):  # all are connected
            await replicas.call(CALLERS)
        yield replicas


async def test_calls_move_away_from_a_slow_replica_and_back_when_it_is_fast() -> None:
    async with three(load_report_after_s=0.0, load_report_over_s=0.5) as replicas:
        await replicas.call_until(lambda shares: shares[-1] < 0.1)
        replicas.writers[-1].delay_s = QUICK_S
        await replicas.call_until(lambda shares: shares[-1] > 0.2)


async def test_servers_that_tell_nothing_get_calls_in_turn() -> None:
    async with three(load_report_after_s=60.0) as replicas:
        shares = await replicas.call(12 * CALLERS)
        assert shares == pytest.approx([1 / 3] * 3, abs=0.03)


async def told(
    server: RunningServer, method: str = f"{SERVICE}/GenerateCaption", **fields: str
) -> float | None:
    """Calls once; returns the seconds that an answer takes, if the trailers say it.

    By a client in Go: the C core keeps this trailer to itself.
    """
    arguments = ("-plaintext", "-v", "-d", json.dumps(fields), server.target, method)
    process = await asyncio.create_subprocess_exec(
        BIN / "grpcurl",
        *arguments,
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.STDOUT,
    )
    output, _ = await process.communicate()
    assert b"Response trailers received" in output
    found = re.search(rf"{LOAD_REPORT_KEY}: (\S+)", output.decode())
    if found is None:
        return None
    report = type_pb2.LoadReport.FromString(base64.b64decode(found.group(1)))
    return float(report.application_utilization / report.rps_fractional) ** 0.5


@asynccontextmanager
async def warm_server(writer: Writer) -> AsyncIterator[RunningServer]:
    """A server that has begun to tell."""
    mounts = [
        (rpc.add_TextServiceServicer_to_server, writer),
        (profile_grpc.add_ProfileServiceServicer_to_server, Profiles()),
    ]
    async with running(mounts, [SERVICE, PROFILES], load_report_after_s=0.0) as server:
        assert await told(server) is None
        async with asyncio.timeout(20):
            while await told(server) is None:
                pass
        yield server


async def test_trailers_of_answers_and_failures_tell_how_long_an_answer_takes() -> None:
    async with warm_server(Writer(SLOW_S)) as server:
        for draft in ("", "fail"):
            seconds = await told(server, draft=draft)
            assert seconds is not None
            assert SLOW_S <= seconds < 10 * SLOW_S


async def test_a_call_that_lasts_as_long_as_its_caller_sends_tells_nothing() -> None:
    async with warm_server(Writer()) as server:
        assert await told(server, f"{PROFILES}/IngestEvents") is None
