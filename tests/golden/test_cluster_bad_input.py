"""Bad input, each with its golden error; no server is worse off afterwards."""

import asyncio
import io
import struct
import zlib
from collections.abc import AsyncIterator, Callable
from pathlib import Path
from typing import Any

import grpc
import pytest
from google.rpc import error_details_pb2
from PIL import Image
from running_cluster import (
    ENOUGH_S,
    RunningCluster,
    Stub,
    photo,
    request,
    server_ids,
    service_named,
)

from cluster.ports import GATEWAY
from fomofeed.gateway.v1 import orchestrator_service_pb2 as pb
from fomofeed.gateway.v1 import orchestrator_service_pb2_grpc as pb_grpc
from fomofeed.profile.v1 import profile_service_pb2 as profile_pb
from fomofeed.profile.v1 import profile_service_pb2_grpc as profile_grpc
from serving.rpc.channels import status_of

MAX_GROWTH_BYTES = 150 * 2**20  # of one server over all bad inputs together


def truncated_jpeg() -> bytes:
    whole = photo("china.jpg")
    return whole[: len(whole) // 2]


def png_bomb(side_px: int = 30_000) -> bytes:
    """A valid PNG of `side_px` square, some 130 KB; decoded it would take 900 MB."""

    def chunk(kind: bytes, data: bytes) -> bytes:
        check = struct.pack(">I", zlib.crc32(kind + data))
        return struct.pack(">I", len(data)) + kind + data + check

    header = struct.pack(">IIBBBBB", side_px, side_px, 1, 0, 0, 0, 0)
    row = bytes(1 + (side_px + 7) // 8)
    compress = zlib.compressobj(9)
    pixels = b"".join(compress.compress(row) for _ in range(side_px)) + compress.flush()
    return (
        b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + chunk(b"IDAT", pixels) + chunk(b"IEND", b"")
    )


def small_gif() -> bytes:
    buffer = io.BytesIO()
    Image.new("RGB", (64, 64), "teal").save(buffer, "GIF")
    return buffer.getvalue()


# name -> (request, field that the error names, words of its description)
REFUSED: dict[str, tuple[Callable[[], pb.OrchestrateRequest], str, str]] = {
    "no media": (lambda: request(media=b""), "media", ""),
    "a truncated JPEG": (lambda: request(media=truncated_jpeg()), "media", ""),
    "a PNG bomb": (lambda: request(media=png_bomb()), "media", "4096"),
    "text named .jpg": (lambda: request(media=b"just some words " * 100), "media", ""),
    "9 MiB": (lambda: request(media=bytes(9 * 2**20)), "media", "8 MiB"),
    "a negative user": (lambda: request(user_id=-1), "user_id", ""),
    "no user": (lambda: request(user_id=0), "user_id", ""),
    "10,000 tags": (lambda: request(tags=["t"] * 10_000), "tags", "64"),
    "a caption of 1 MB": (lambda: request(caption="x" * 1_000_000), "caption", "2200"),
    "an unknown graph": (lambda: request(action="dance"), "action", "analyze"),
}


@pytest.fixture
async def stub(cluster: RunningCluster) -> AsyncIterator[Stub]:
    async with cluster.gateway() as gateway:
        yield gateway


@pytest.mark.parametrize("name", REFUSED)
async def test_bad_input_is_refused_by_the_name_of_its_field(stub: Stub, name: str) -> None:
    make, field, words = REFUSED[name]
    with pytest.raises(grpc.aio.AioRpcError) as refusal:
        await stub.Orchestrate(make(), timeout=ENOUGH_S)
    assert refusal.value.code() is grpc.StatusCode.INVALID_ARGUMENT
    violations = violations_of(refusal.value)
    assert field in {violation.field for violation in violations}, violations
    assert any(words in violation.description for violation in violations), violations


def violations_of(
    error: grpc.aio.AioRpcError,
) -> list[error_details_pb2.BadRequest.FieldViolation]:
    bad = error_details_pb2.BadRequest()
    for detail in status_of(error).details:
        if detail.Unpack(bad):
            return list(bad.field_violations)
    return []


async def test_an_unknown_user_is_answered_for_the_population_and_told_so(
    stub: Stub,
) -> None:
    answer = await stub.Orchestrate(request(user_id=987_654_321), timeout=ENOUGH_S)
    (lost,) = answer.degradations
    assert (lost.node, lost.reason, lost.substitute) == ("profile", "NOT_FOUND", "population_prior")
    assert answer.HasField("optimal_time")


async def test_a_body_of_100_mb_is_refused_by_grpc_itself(cluster: RunningCluster) -> None:
    unlimited = [("grpc.max_send_message_length", -1)]
    target = cluster.ports.target(GATEWAY)
    async with grpc.aio.insecure_channel(target, options=unlimited) as channel:
        stub: Any = pb_grpc.OrchestratorServiceStub(channel)
        with pytest.raises(grpc.aio.AioRpcError) as refusal:
            await stub.Orchestrate(request(media=bytes(100_000_000)), timeout=ENOUGH_S)
    assert refusal.value.code() is grpc.StatusCode.RESOURCE_EXHAUSTED
    assert "larger than max" in str(refusal.value.details())


async def test_a_zone_that_does_not_exist_is_refused_in_an_event(cluster: RunningCluster) -> None:
    event = profile_pb.Event(
        kind=profile_pb.EVENT_KIND_USER,
        user_id=4711,
        user=profile_pb.UserFacts(user_name="Ares", time_zone="Mars/Base", follower_count=1),
    )
    event.event_time.FromJsonString("2026-01-05T00:00:00Z")
    message = profile_pb.IngestEventsRequest(events=[event], request_id="mars")
    target = cluster.ports.target(service_named("profile"))
    async with grpc.aio.insecure_channel(target) as channel:
        stub: Any = profile_grpc.ProfileServiceStub(channel)
        with pytest.raises(grpc.aio.AioRpcError) as refusal:
            await stub.IngestEvents(iter([message]), timeout=ENOUGH_S)
    assert refusal.value.code() is grpc.StatusCode.INVALID_ARGUMENT
    assert any("Mars/Base" in each.description for each in violations_of(refusal.value))


async def test_a_small_gif_is_no_bad_input(stub: Stub) -> None:
    answer = await stub.Orchestrate(request(media=small_gif()), timeout=ENOUGH_S)
    assert not answer.degraded


async def test_no_server_is_worse_off_after_all_of_it(cluster: RunningCluster, stub: Stub) -> None:
    await stub.Orchestrate(request(), timeout=ENOUGH_S)
    before = server_ids(cluster)
    memory = {name: resident_bytes(process.pid) for name, process in before.items()}
    posts = [make() for make, _, _ in REFUSED.values()]
    for _ in range(3):
        calls = (stub.Orchestrate(post, timeout=ENOUGH_S) for post in posts)
        outcomes = await asyncio.gather(*calls, return_exceptions=True)
        assert all(isinstance(outcome, grpc.aio.AioRpcError) for outcome in outcomes)
    answer = await stub.Orchestrate(request(), timeout=ENOUGH_S)
    assert not answer.degraded
    assert server_ids(cluster) == before
    for name, process in before.items():
        grown = resident_bytes(process.pid) - memory[name]
        assert grown < MAX_GROWTH_BYTES, f"{name} grew by {grown / 2**20:.0f} MiB"


def resident_bytes(pid: int) -> int:
    pages = int((Path("/proc") / str(pid) / "statm").read_text().split()[1])
    return pages * 4096
