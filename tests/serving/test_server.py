import asyncio
import gc
import resource
from pathlib import Path
from typing import Any

import grpc
import pytest
from google.rpc import error_details_pb2
from grpc_health.v1 import health_pb2, health_pb2_grpc

from fomofeed.text.v1 import text_service_pb2 as pb
from fomofeed.text.v1 import text_service_pb2_grpc as rpc
from fomofeed.type.v1 import type_pb2
from serving import request
from serving.errors import DeadlineError, InvalidRequestError, QueueFullError, Violation
from serving.rpc.channels import open_channel, status_of
from serving.rpc.lifecycle import Phase
from serving.rpc.server import Server, ServerConfig

SERVICE = "fomofeed.text.v1.TextService"


class Captions(rpc.TextServiceServicer):
    """Answers with what it knows of the call, or raises what it was told to."""

    def __init__(self, error: Exception | None = None) -> None:
        self.error = error
        self.entered = asyncio.Event()
        self.leave = asyncio.Event()
        self.cancelled = asyncio.Event()

    async def GenerateCaption(self, request_: Any, context: Any) -> Any:
        self.entered.set()
        if self.error:
            raise self.error
        facts = request.current()
        facts.ledger.queue_s = 0.002
        return pb.GenerateCaptionResponse(
            caption=f"{facts.criticality.name} {facts.tenant} {facts.left_s() < 60}"
        )

    async def GenerateNotification(self, request_: Any, context: Any) -> Any:
        self.entered.set()
        try:
            await self.leave.wait()
        except asyncio.CancelledError:
            self.cancelled.set()
            raise
        return pb.GenerateNotificationResponse(notification="done")


def mounted(servicer: Captions) -> list[Any]:
    return [(rpc.add_TextServiceServicer_to_server, servicer)]


async def failure(call: Any) -> grpc.aio.AioRpcError:
    with pytest.raises(grpc.aio.AioRpcError) as caught:
        await call
    return caught.value


async def test_facts_of_the_call_reach_the_servicer(serving_on: Any) -> None:
    running = await serving_on(mounted(Captions()), [SERVICE])
    stub = rpc.TextServiceStub(running.channel)
    metadata = (("fomofeed-criticality", "critical"), ("fomofeed-tenant", "feed"))
    answer = await stub.GenerateCaption(pb.GenerateCaptionRequest(), timeout=30, metadata=metadata)
    assert answer.caption == "CRITICAL feed True"
    assert (await stub.GenerateCaption(pb.GenerateCaptionRequest())).caption.endswith("False")


async def test_ledger_travels_in_the_trailers(serving_on: Any) -> None:
    running = await serving_on(mounted(Captions()), [SERVICE])
    call = rpc.TextServiceStub(running.channel).GenerateCaption(pb.GenerateCaptionRequest())
    trailers = dict(await call.trailing_metadata())
    ledger = type_pb2.Ledger.FromString(trailers["fomofeed-ledger-bin"])
    assert ledger.queue_us == 2000
    assert ledger.replica.endswith(str(running.server.port))


async def test_malformed_criticality_is_the_callers_mistake(serving_on: Any) -> None:
    running = await serving_on(mounted(Captions()), [SERVICE])
    stub = rpc.TextServiceStub(running.channel)
    metadata = (("fomofeed-criticality", "urgent"),)
    error = await failure(stub.GenerateCaption(pb.GenerateCaptionRequest(), metadata=metadata))
    assert error.code() is grpc.StatusCode.INVALID_ARGUMENT
    assert "fomofeed-criticality is 'urgent'" in (error.details() or "")


async def test_serving_error_leaves_with_code_details_and_pushback(serving_on: Any) -> None:
    running = await serving_on(mounted(Captions(QueueFullError("queue", "8 rows", 0.2))), [SERVICE])
    stub = rpc.TextServiceStub(running.channel)
    error = await failure(stub.GenerateCaption(pb.GenerateCaptionRequest()))
    assert error.code() is grpc.StatusCode.RESOURCE_EXHAUSTED
    assert dict(error.trailing_metadata())["grpc-retry-pushback-ms"] == "200"
    packed = status_of(error).details
    retry = error_details_pb2.RetryInfo()
    assert any(detail.Unpack(retry) for detail in packed)
    assert retry.retry_delay.ToMilliseconds() == 200


async def test_violations_name_field_value_and_limit(serving_on: Any) -> None:
    wrong = InvalidRequestError(Violation("draft", "9000 characters", "at most 2200"))
    running = await serving_on(mounted(Captions(wrong)), [SERVICE])
    error = await failure(
        rpc.TextServiceStub(running.channel).GenerateCaption(pb.GenerateCaptionRequest())
    )
    bad = error_details_pb2.BadRequest()
    assert status_of(error).details[0].Unpack(bad)
    assert bad.field_violations[0].field == "draft"
    assert bad.field_violations[0].description == "draft is 9000 characters, at most 2200"


@pytest.mark.parametrize("error", [RuntimeError("/secret/path"), ZeroDivisionError("x")])
async def test_unexpected_error_is_logged_and_hidden(
    serving_on: Any, error: Exception, caplog: pytest.LogCaptureFixture
) -> None:
    running = await serving_on(mounted(Captions(error)), [SERVICE])
    seen = await failure(
        rpc.TextServiceStub(running.channel).GenerateCaption(pb.GenerateCaptionRequest())
    )
    assert seen.code() is grpc.StatusCode.INTERNAL
    text = seen.details() or ""
    assert "secret" not in text
    assert text.startswith("internal error (incident ")
    assert text[-13:-1] in caplog.text


async def test_expired_deadline_has_its_reason(serving_on: Any) -> None:
    running = await serving_on(mounted(Captions(DeadlineError.expired())), [SERVICE])
    error = await failure(
        rpc.TextServiceStub(running.channel).GenerateCaption(pb.GenerateCaptionRequest())
    )
    info = error_details_pb2.ErrorInfo()
    assert status_of(error).details[0].Unpack(info)
    assert (error.code(), info.reason) == (grpc.StatusCode.DEADLINE_EXCEEDED, "EXPIRED")


async def test_a_loading_server_refuses_and_a_probe_says_why() -> None:
    async with (
        Server(ServerConfig(metrics_port=None), "text", [SERVICE]) as server,
        open_channel(f"127.0.0.1:{server.port}", health_service=None) as channel,
    ):
        stub = rpc.TextServiceStub(channel)
        error = await failure(stub.GenerateCaption(pb.GenerateCaptionRequest()))
        assert error.code() is grpc.StatusCode.UNAVAILABLE
        assert error.details() == "server is loading"
        health = health_pb2_grpc.HealthStub(channel)
        status = await health.Check(health_pb2.HealthCheckRequest(service=SERVICE))
        assert status.status == health_pb2.HealthCheckResponse.NOT_SERVING
        alive = await health.Check(health_pb2.HealthCheckRequest(service="liveness"))
        assert alive.status == health_pb2.HealthCheckResponse.SERVING


async def test_drain_answers_what_was_accepted_and_refuses_the_rest() -> None:
    servicer, stop = Captions(), asyncio.Event()
    config = ServerConfig(metrics_port=None, lame_duck_s=0.0)
    async with Server(config, "text", [SERVICE]) as server:
        server.mount(rpc.add_TextServiceServicer_to_server, servicer)
        serving = asyncio.create_task(server.serve(stop))
        async with open_channel(f"127.0.0.1:{server.port}") as channel:
            stub = rpc.TextServiceStub(channel)
            accepted = asyncio.ensure_future(
                stub.GenerateNotification(pb.GenerateNotificationRequest(), wait_for_ready=True)
            )
            await servicer.entered.wait()
            stop.set()
            await server.entered(Phase.DRAINING)
            error = await failure(stub.GenerateCaption(pb.GenerateCaptionRequest()))
            assert error.code() is grpc.StatusCode.UNAVAILABLE
            servicer.leave.set()
            assert (await accepted).notification == "done"
            await serving


async def test_who_has_not_heard_of_the_end_is_served_on() -> None:
    stop, loop = asyncio.Event(), asyncio.get_running_loop()
    config = ServerConfig(metrics_port=None, lame_duck_s=0.5)
    async with Server(config, "text", [SERVICE]) as server:
        server.mount(rpc.add_TextServiceServicer_to_server, Captions())
        serving = asyncio.create_task(server.serve(stop))
        async with grpc.aio.insecure_channel(f"127.0.0.1:{server.port}") as channel:  # deaf
            stub = rpc.TextServiceStub(channel)
            await stub.GenerateCaption(pb.GenerateCaptionRequest(), wait_for_ready=True)
            stop.set()
            end = loop.time() + 1.2 * config.lame_duck_s
            while loop.time() < end:
                assert (await stub.GenerateCaption(pb.GenerateCaptionRequest())).caption
            assert server.phase is Phase.LAME_DUCK
            await serving


async def test_cancelled_caller_cancels_the_servicer(serving_on: Any) -> None:
    servicer = Captions()
    running = await serving_on(mounted(servicer), [SERVICE])
    stub = rpc.TextServiceStub(running.channel)
    call = stub.GenerateNotification(pb.GenerateNotificationRequest())
    await servicer.entered.wait()
    call.cancel()
    await asyncio.wait_for(servicer.cancelled.wait(), 1)


async def test_more_calls_than_allowed_at_once_are_refused(serving_on: Any) -> None:
    servicer = Captions()
    running = await serving_on(mounted(servicer), [SERVICE], max_in_flight=1)
    stub = rpc.TextServiceStub(running.channel)
    first = stub.GenerateNotification(pb.GenerateNotificationRequest())
    await servicer.entered.wait()
    error = await failure(stub.GenerateCaption(pb.GenerateCaptionRequest()))
    assert error.code() is grpc.StatusCode.RESOURCE_EXHAUSTED
    servicer.leave.set()
    assert (await first).notification == "done"
    assert (await stub.GenerateCaption(pb.GenerateCaptionRequest())).caption


async def test_a_taken_port_is_named() -> None:
    async with Server(ServerConfig(metrics_port=None), "text", [SERVICE]) as first:
        taken = ServerConfig(port=first.port, metrics_port=None)
        with pytest.raises(OSError, match=f"port {first.port} on 127.0.0.1 cannot be bound"):
            async with Server(taken, "text", [SERVICE]):
                pass


async def test_refused_calls_do_not_keep_their_requests(serving_on: Any) -> None:
    """gRPC keeps an abort in a cycle of frames; the request must not wait for its collection."""
    running = await serving_on(mounted(Captions(InvalidRequestError())), [SERVICE])
    stub = rpc.TextServiceStub(running.channel)
    large = pb.GenerateCaptionRequest(draft="x" * 4 * 2**20)
    await failure(stub.GenerateCaption(large))
    gc.collect()
    gc.disable()
    try:
        before = resident_mib()
        for _ in range(50):
            await failure(stub.GenerateCaption(large))
        assert resident_mib() - before < 100  # 200 MiB of requests
    finally:
        gc.enable()


def resident_mib() -> float:
    pages = int(Path("/proc/self/statm").read_text().split()[1])
    return pages * resource.getpagesize() / 2**20
