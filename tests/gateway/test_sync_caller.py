"""A caller without asyncio: the generated stubs on a blocking channel, played by grpcio-testing."""

import base64
from concurrent.futures import ThreadPoolExecutor

import grpc
import grpc_testing
import pytest
from google.protobuf import json_format

from fomofeed.gateway.v1 import orchestrator_service_pb2 as pb
from fomofeed.gateway.v1 import orchestrator_service_pb2_grpc as pb_grpc

SERVICE = pb.DESCRIPTOR.services_by_name["OrchestratorService"]
ORCHESTRATE = SERVICE.methods_by_name["Orchestrate"]
BODY = {
    "user_id": 12,
    "content_type": "post",
    "media_path": base64.b64encode(b"picture").decode(),
    "caption": "Test caption #ai",
    "tags": ["ai", "test"],
    "action": "analyze",
}


@pytest.fixture
def caller() -> ThreadPoolExecutor:
    with ThreadPoolExecutor(1) as executor:
        yield executor


def test_blocking_caller_sends_the_feeds_body_and_reads_the_answer(
    caller: ThreadPoolExecutor,
) -> None:
    channel = grpc_testing.channel([SERVICE], grpc_testing.strict_real_time())
    stub = pb_grpc.OrchestratorServiceStub(channel)
    request = json_format.ParseDict(BODY, pb.OrchestrateRequest())
    metadata = (("fomofeed-criticality", "critical"),)
    call = caller.submit(stub.Orchestrate, request, timeout=5, metadata=metadata)
    seen, received, rpc = channel.take_unary_unary(ORCHESTRATE)
    assert (received.media, received.user_id, list(received.tags)) == (
        b"picture",
        12,
        ["ai", "test"],
    )
    assert metadata[0] in [tuple(pair) for pair in seen]
    rpc.send_initial_metadata(())
    rpc.terminate(pb.OrchestrateResponse(optimal_time=19), (), grpc.StatusCode.OK, "")
    assert call.result(timeout=5).optimal_time == 19


def test_blocking_caller_gets_the_typed_error(caller: ThreadPoolExecutor) -> None:
    channel = grpc_testing.channel([SERVICE], grpc_testing.strict_real_time())
    call = caller.submit(
        pb_grpc.OrchestratorServiceStub(channel).Orchestrate, pb.OrchestrateRequest(), timeout=5
    )
    *_, rpc = channel.take_unary_unary(ORCHESTRATE)
    rpc.send_initial_metadata(())
    pushback = (("grpc-retry-pushback-ms", "20"),)
    rpc.terminate(None, pushback, grpc.StatusCode.RESOURCE_EXHAUSTED, "queue is full")
    error = call.exception(timeout=5)
    assert error.code() is grpc.StatusCode.RESOURCE_EXHAUSTED
    assert pushback[0] in [tuple(pair) for pair in error.trailing_metadata()]
