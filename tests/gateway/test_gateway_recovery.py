"""A service that goes and comes back, through real channels."""

import asyncio
from collections.abc import AsyncIterator, Sequence
from contextlib import AsyncExitStack, asynccontextmanager
from pathlib import Path

import grpc
import pytest
from google.rpc import error_details_pb2 as details_pb

from fomofeed.clip.v1 import clip_service_pb2 as clip_pb
from fomofeed.gateway.v1 import orchestrator_service_pb2 as pb
from services.gateway.__main__ import load_plans
from services.gateway.calling import Policies
from services.gateway.channels import open_channels
from services.gateway.config import GatewayConfig
from services.gateway.node import NodeCall
from services.gateway.outcome import Call
from services.gateway.policies.budget import Budget
from services.gateway.policies.hedge import Hedged
from services.gateway.policies.latency import LatencyWindow
from services.gateway.policies.limiter import LimiterConfig
from serving.errors import EngineError, NotReadyError
from serving.rpc.channels import status_of
from tests.conftest import running
from tests.gateway.conftest import PLANS, Analyze, ask_directly
from tests.gateway.fake_nodes import FakeServices

CLIP = "fomofeed.clip.v1.ClipService"


def report_of(response: pb.OrchestrateResponse, node: str) -> pb.NodeReport:
    return next(report for report in response.nodes if report.node == node)


async def test_a_channel_tells_when_its_service_is_back() -> None:
    mount = FakeServices().mounts()[CLIP]
    async with running([mount], [CLIP]) as first:
        port = first.server.port
    config = GatewayConfig(clip=f"127.0.0.1:{port}", start_grace_s=0)
    async with open_channels(config, [CLIP]) as channels:
        is_back = asyncio.Event()
        channels[CLIP].on_connect(is_back.set)
        async with running([mount], [CLIP], port=port):
            await asyncio.wait_for(is_back.wait(), 5)
            assert channels[CLIP].grpc.get_state() is grpc.ChannelConnectivity.READY


async def test_a_gateway_does_not_wait_longer_than_its_grace_for_an_absent_service() -> None:
    async with running([]) as nobody:
        port = nobody.server.port
    config = GatewayConfig(clip=f"127.0.0.1:{port}", start_grace_s=0.05)
    async with open_channels(config, [CLIP]) as channels:
        assert channels[CLIP].grpc.get_state() is not grpc.ChannelConnectivity.READY


async def test_a_draining_replica_is_tried_again_once_the_budget_allows(analyze: Analyze) -> None:
    for _ in range(5):  # a fifth of the calls may be retries
        await analyze.ask()
    analyze.fakes.ranker.error = NotReadyError("draining")
    response = await analyze.ask()
    assert report_of(response, "ranker").attempts == 2
    response = await analyze.ask()
    assert report_of(response, "ranker").attempts == 1


async def test_a_failing_node_is_left_alone_after_five_failures_in_a_row(analyze: Analyze) -> None:
    analyze.fakes.ranker.error = EngineError("model failed")
    for _ in range(5):
        await analyze.ask()
    response = await analyze.ask()
    (degradation,) = response.degradations
    assert (degradation.node, degradation.reason) == ("ranker", "BREAKER_OPEN")
    assert report_of(response, "ranker").attempts == 0
    assert len(analyze.fakes.ranker.requests) == 5


async def test_a_node_that_hangs_is_left_alone_too(analyze: Analyze) -> None:
    analyze.fakes.timing.delay_s = 30
    async with analyze.servicer(Policies()) as servicer:
        for _ in range(5):
            response = await ask_directly(servicer, 0.3)
            assert response.degradations[0].reason == "DEADLINE_EXCEEDED"
        response = await ask_directly(servicer, 10.0)
    assert response.degradations[0].reason == "BREAKER_OPEN"


async def test_an_absent_service_opens_no_breaker(analyze: Analyze) -> None:
    analyze.fakes.ranker.error = NotReadyError("draining")
    for _ in range(8):
        response = await analyze.ask()
        assert response.degradations[0].reason == "UNAVAILABLE"


@asynccontextmanager
async def images_by(replicas: Sequence[FakeServices]) -> AsyncIterator[Call]:
    """Calls of the picture's node over the wire, one replica after the other."""
    async with AsyncExitStack() as stack:
        servers = [
            await stack.enter_async_context(running([one.mounts()[CLIP]], [CLIP]))
            for one in replicas
        ]
        target = "ipv4:" + ",".join(server.target for server in servers)
        channels = await stack.enter_async_context(
            open_channels(GatewayConfig(clip=target), [CLIP])
        )
        clip = PLANS["analyze"].nodes["clip"]
        call = NodeCall(channels[CLIP].grpc, clip.method, clip.request, clip.response)
        deadline = asyncio.get_running_loop().time() + 10
        while not all(one.clip.requests for one in replicas):  # all are connected
            await call(clip_pb.AnalyzeImageRequest(), deadline)
        yield call


async def test_a_hung_call_is_made_again_elsewhere_and_cancelled_on_the_wire() -> None:
    replicas = [FakeServices(), FakeServices()]
    async with images_by(replicas) as wire:
        call = Hedged(wire, LatencyWindow(0.05), Budget(1.0))
        deadline = asyncio.get_running_loop().time() + 10
        replicas[0].clip.delay_s = 60
        outcomes = [await call(clip_pb.AnalyzeImageRequest(), deadline) for _ in range(2)]
        assert all(outcome.answer is not None for outcome in outcomes)
        assert 2 in {outcome.attempts for outcome in outcomes}
        await asyncio.wait_for(replicas[0].clip.cancelled.wait(), 5)


async def test_a_replica_that_only_fails_is_left_out() -> None:
    replicas = [FakeServices() for _ in range(3)]
    async with images_by(replicas) as call:
        replicas[1].clip.error = EngineError("broken")
        deadline = asyncio.get_running_loop().time() + 60
        answered_in_turn = 0
        async with asyncio.timeout(30):  # an ejection is decided once a second
            while answered_in_turn < 12:
                outcome = await call(clip_pb.AnalyzeImageRequest(), deadline)
                answered_in_turn = answered_in_turn + 1 if outcome.answer is not None else 0


REQUIRED = """\
name: needs_ranker
request: fomofeed.gateway.v1.OrchestrateRequest
response: fomofeed.gateway.v1.OrchestrateResponse
default_timeout_ms: 200
nodes:
  ranker:
    call: fomofeed.ranker.v1.RankerService/ScorePost
    fields: {user_id: request.user_id, caption: request.caption}
    timeout_ms: 30000
    expected_ms: 20
result:
  engagement_score: ranker.engagement_score
"""


async def test_without_room_for_a_required_node_the_caller_is_told_when_to_come_again(
    tmp_path: Path,
) -> None:
    (tmp_path / "needs_ranker.yaml").write_text(REQUIRED)
    plans = load_plans(GatewayConfig(graphs=tmp_path))
    narrow = Policies(limiter=LimiterConfig(initial=1, least=1, most=1), max_waiting=0)
    async with Analyze(narrow, plans) as analyze:
        analyze.fakes.ranker.delay_s = 30
        first = asyncio.create_task(analyze.ask())
        await analyze.fakes.ranker.started.wait()
        with pytest.raises(grpc.aio.AioRpcError) as error:
            await analyze.ask(caption="another")
        first.cancel()
    assert error.value.code() is grpc.StatusCode.RESOURCE_EXHAUSTED
    retry, info = details_pb.RetryInfo(), details_pb.ErrorInfo()
    assert [
        detail.Unpack(info) or detail.Unpack(retry) for detail in status_of(error.value).details
    ]
    assert (info.metadata["node"], retry.retry_delay.ToMilliseconds()) == ("ranker", 20)
    assert ("grpc-retry-pushback-ms", "20") in list(error.value.trailing_metadata() or ())
