"""A service that goes and comes back, through real channels."""

import asyncio

import grpc

from fomofeed.gateway.v1 import orchestrator_service_pb2 as pb
from services.gateway.channels import open_channels
from services.gateway.config import GatewayConfig
from serving.errors import EngineError, NotReadyError
from tests.conftest import running
from tests.gateway.conftest import Analyze
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
    for _ in range(5):
        response = await analyze.ask(timeout_s=0.3)
        assert response.degradations[0].reason == "DEADLINE_EXCEEDED"
    response = await analyze.ask()
    assert response.degradations[0].reason == "BREAKER_OPEN"


async def test_an_absent_service_opens_no_breaker(analyze: Analyze) -> None:
    analyze.fakes.ranker.error = NotReadyError("draining")
    for _ in range(8):
        response = await analyze.ask()
        assert response.degradations[0].reason == "UNAVAILABLE"
