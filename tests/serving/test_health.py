"""Health tells everybody who asks or watches, and nobody who does not listen can stop it."""

import asyncio
import struct
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import grpc
from grpc_health.v1 import health_pb2, health_pb2_grpc
from grpc_reflection.v1alpha import reflection_pb2, reflection_pb2_grpc

from serving.rpc.channels import open_channel
from serving.rpc.lifecycle import LIVENESS, Phase
from serving.rpc.server import Server, ServerConfig
from tests.fuzz.broken_http2 import (
    DATA,
    END_HEADERS,
    END_STREAM,
    HEADERS,
    PREFACE,
    SETTINGS,
    call_headers,
    frame,
)

_NEWER: Any = health_pb2  # than its stubs, which know no List
SERVICE = "some.Service"
CONFIG = ServerConfig(metrics_port=None, lame_duck_s=0.0)
SERVING, NOT_SERVING = (
    health_pb2.HealthCheckResponse.SERVING,
    health_pb2.HealthCheckResponse.NOT_SERVING,
)


@asynccontextmanager
async def serving() -> AsyncIterator[tuple[Server, asyncio.Event, Any]]:
    """A server that says SERVING, the event that stops it, and a health stub."""
    stop = asyncio.Event()
    async with Server(CONFIG, "test", [SERVICE]) as server:
        task = asyncio.create_task(server.serve(stop))
        await server.entered(Phase.SERVING)
        async with open_channel(f"127.0.0.1:{server.port}", health_service=None) as channel:
            await channel.channel_ready()
            yield server, stop, health_pb2_grpc.HealthStub(channel)
            stop.set()
            await asyncio.wait_for(task, 10)


async def watch_without_reading(port: int, name: bytes = b"") -> asyncio.StreamWriter:
    """Watches health over a connection that grants not one byte for the answer."""
    _, writer = await asyncio.open_connection("127.0.0.1", port)
    empty_window = frame(SETTINGS, 0, 0, struct.pack(">HI", 4, 0))
    asked = frame(HEADERS, END_HEADERS, 1, call_headers(b"/grpc.health.v1.Health/Watch"))
    asked += frame(DATA, END_STREAM, 1, b"\0" + struct.pack(">I", 0))
    writer.write(PREFACE + empty_window + asked)
    await writer.drain()
    return writer


async def test_a_watcher_that_does_not_read_stops_neither_others_nor_the_drain() -> None:
    async with serving() as (server, _, stub):
        writer = await watch_without_reading(server.port)
        watch = stub.Watch(health_pb2.HealthCheckRequest(), timeout=10)
        assert (await watch.read()).status == SERVING
        for is_ready, status in ((False, NOT_SERVING), (True, SERVING)) * 50:
            await asyncio.wait_for(server.report("", is_ready), 5)
            assert (await watch.read()).status == status
        writer.close()


async def test_a_watcher_hears_of_each_change_and_of_names_yet_unknown() -> None:
    async with serving() as (server, _, stub):
        watch = stub.Watch(health_pb2.HealthCheckRequest(service="model"), timeout=10)
        assert (await watch.read()).status == health_pb2.HealthCheckResponse.SERVICE_UNKNOWN
        await server.report("model", True)
        assert (await watch.read()).status == SERVING
        await server.report("model", False)
        assert (await watch.read()).status == NOT_SERVING


async def test_a_server_that_still_loads_is_watched_listed_and_reflected() -> None:
    async with (
        Server(CONFIG, "test", [SERVICE]) as server,
        open_channel(f"127.0.0.1:{server.port}", health_service=None) as channel,
    ):
        health = health_pb2_grpc.HealthStub(channel)
        watch = health.Watch(health_pb2.HealthCheckRequest(), timeout=10)
        assert (await watch.read()).status == NOT_SERVING
        assert "" in (await health.List(_NEWER.HealthListRequest(), timeout=10)).statuses
        asked = reflection_pb2.ServerReflectionRequest(list_services="*")
        reflection = reflection_pb2_grpc.ServerReflectionStub(channel)
        told = await reflection.ServerReflectionInfo(iter([asked]), timeout=10).read()
        assert SERVICE in [one.name for one in told.list_services_response.service]


async def test_the_list_has_every_name() -> None:
    async with serving() as (server, _, stub):
        await server.report("model", False)
        statuses = (await stub.List(_NEWER.HealthListRequest())).statuses
    assert {name: one.status for name, one in statuses.items()} == {
        "": SERVING,
        LIVENESS: SERVING,
        SERVICE: SERVING,
        "model": NOT_SERVING,
    }


async def test_an_unknown_name_is_not_found() -> None:
    async with serving() as (_, _, stub):
        try:
            await stub.Check(health_pb2.HealthCheckRequest(service="nobody"))
            raise AssertionError("it was found")
        except grpc.aio.AioRpcError as error:
            assert error.code() is grpc.StatusCode.NOT_FOUND
