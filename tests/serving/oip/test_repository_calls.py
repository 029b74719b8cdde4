"""The repository extension over gRPC: what callers, operators and probes see."""

import asyncio
from collections import defaultdict
from collections.abc import Callable
from pathlib import Path
from typing import Any

import grpc
import pytest
from grpc_health.v1 import health_pb2, health_pb2_grpc

from inference import grpc_service_pb2 as pb
from serving.models.repository import Repository
from serving.oip.mounting import mount
from serving.oip.servicer import SERVICE_NAME
from serving.rpc.channels import open_channel
from serving.rpc.lifecycle import Phase
from serving.rpc.server import Server, ServerConfig
from tests.serving.oip.conftest import Running
from tests.serving.oip.requests import typed
from tests.serving.tiny_models import write_linear

SERVING = health_pb2.HealthCheckResponse.SERVING
NOT_SERVING = health_pb2.HealthCheckResponse.NOT_SERVING


def put(root: Path, version: str, scale: float, name: str = "linear") -> Path:
    folder = root / name / version
    folder.mkdir(parents=True, exist_ok=True)
    return write_linear(folder / "model.onnx", scale=scale)


@pytest.fixture
async def serve_folder(tmp_path: Path) -> Any:
    """`await serve_folder()` serves `tmp_path` as `python -m serving.oip` does."""
    stop, ended = asyncio.Event(), asyncio.Event()
    running: list[asyncio.Task[None]] = []
    ready: asyncio.Future[Running] = asyncio.get_running_loop().create_future()

    async def run() -> None:
        config = ServerConfig(metrics_port=None, lame_duck_s=0.0)
        async with Server(config, "test", [SERVICE_NAME]) as server:
            repository = Repository(tmp_path, server.report)
            await mount(server, repository)
            async with repository:
                serving = asyncio.create_task(server.serve(stop))
                await server.entered(Phase.SERVING)
                target = f"127.0.0.1:{server.port}"
                async with open_channel(target, health_service=None) as channel:
                    await channel.channel_ready()
                    ready.set_result(Running(server, channel))
                    await ended.wait()
                stop.set()
                await serving

    async def serve() -> Running:
        running.append(asyncio.create_task(run()))
        await asyncio.wait([*running, ready], return_when=asyncio.FIRST_COMPLETED)
        return await ready

    yield serve
    ended.set()
    await asyncio.gather(*running)


Serve = Callable[[], Any]


async def scale_of(served: Running, version: str = "") -> float:
    tensor = typed("x", "FP32", [1, 3], [1, 1, 1])
    request = pb.ModelInferRequest(model_name="linear", model_version=version, inputs=[tensor])
    answer = await served.stub.ModelInfer(request)
    return float(answer.outputs[0].contents.fp32_contents[0]) - 1


async def load(served: Running, name: str = "linear") -> None:
    await served.stub.RepositoryModelLoad(pb.RepositoryModelLoadRequest(model_name=name))


async def failure(call: Any) -> grpc.aio.AioRpcError:
    with pytest.raises(grpc.aio.AioRpcError) as caught:
        await call
    return caught.value


async def test_no_call_fails_while_versions_come_and_go(
    serve_folder: Serve, tmp_path: Path
) -> None:
    put(tmp_path, "1", 1.0)
    served = await serve_folder()
    seen, stop = defaultdict[float, asyncio.Event](asyncio.Event), asyncio.Event()

    async def ask() -> None:
        while not stop.is_set():
            seen[await scale_of(served)].set()

    async with asyncio.TaskGroup() as group:
        for _ in range(8):
            group.create_task(ask())
        for number in range(2, 14):
            await seen[number - 1].wait()
            put(tmp_path, str(number), float(number))
            await load(served)
            assert await scale_of(served) == number
        stop.set()


async def test_a_load_that_fails_is_told_and_the_old_one_answers(
    serve_folder: Serve, tmp_path: Path
) -> None:
    path = put(tmp_path, "1", 1.0)
    served = await serve_folder()
    path.write_bytes(b"broken")
    error = await failure(load(served))
    assert error.code() is grpc.StatusCode.FAILED_PRECONDITION
    assert (error.details() or "").startswith("model linear does not load: 1: ")
    assert str(tmp_path) not in (error.details() or "")
    assert await scale_of(served) == 1
    (line,) = (await served.stub.RepositoryIndex(pb.RepositoryIndexRequest())).models
    assert (line.name, line.version, line.state, bool(line.reason)) == (
        "linear",
        "1",
        "READY",
        True,
    )


async def test_metadata_lists_versions_and_the_digest_changes_with_the_file(
    serve_folder: Serve, tmp_path: Path
) -> None:
    put(tmp_path, "1", 1.0)
    put(tmp_path, "2", 2.0)
    (tmp_path / "linear" / "model.yaml").write_text("versions: all")
    served = await serve_folder()

    async def digest() -> str:
        answer = await served.stub.ModelMetadata(pb.ModelMetadataRequest(name="linear"))
        assert list(answer.versions) == ["1", "2"]
        return str(answer.properties["artifact_sha256"])

    assert [await scale_of(served, version) for version in ("1", "2")] == [1, 2]
    before = await digest()
    put(tmp_path, "2", 22.0)
    await load(served)
    assert await digest() != before
    assert [await scale_of(served, version) for version in ("1", "2")] == [1, 22]


async def test_probes_see_each_model_and_the_whole(serve_folder: Serve, tmp_path: Path) -> None:
    put(tmp_path, "1", 1.0)
    put(tmp_path, "1", 1.0, name="broken").write_bytes(b"broken")
    served = await serve_folder()
    health: Any = health_pb2_grpc.HealthStub(served.channel)

    async def status(name: str) -> int:
        return int((await health.Check(health_pb2.HealthCheckRequest(service=name))).status)

    async def is_ready() -> bool:
        return bool((await served.stub.ServerReady(pb.ServerReadyRequest())).ready)

    assert [await status(name) for name in ("linear", "broken", "")] == [
        SERVING,
        NOT_SERVING,
        NOT_SERVING,
    ]
    assert (await is_ready(), await scale_of(served)) == (False, 1)
    put(tmp_path, "1", 1.0, name="broken")
    await load(served, "broken")
    assert [await status(name) for name in ("broken", "")] == [SERVING, SERVING]
    assert await is_ready()
    request = pb.RepositoryModelUnloadRequest(model_name="linear")
    await served.stub.RepositoryModelUnload(request)
    assert [await status(name) for name in ("linear", "")] == [NOT_SERVING, SERVING]
    error = await failure(scale_of(served))
    assert error.code() is grpc.StatusCode.UNAVAILABLE
    assert error.details() == "server is not serving linear"


async def test_only_what_serves_is_listed_on_wish(serve_folder: Serve, tmp_path: Path) -> None:
    put(tmp_path, "1", 1.0)
    (tmp_path / "empty").mkdir()
    served = await serve_folder()
    both = await served.stub.RepositoryIndex(pb.RepositoryIndexRequest())
    ready = await served.stub.RepositoryIndex(pb.RepositoryIndexRequest(ready=True))
    assert [line.name for line in both.models] == ["empty", "linear"]
    assert [line.name for line in ready.models] == ["linear"]


async def test_files_and_configurations_sent_along_are_refused(
    serve_folder: Serve, tmp_path: Path
) -> None:
    put(tmp_path, "1", 1.0)
    served = await serve_folder()
    for key, value in (("config", {"string_param": "{}"}), ("file:1/x", {"bytes_param": b"x"})):
        parameters = {key: pb.ModelRepositoryParameter(**value)}
        request = pb.RepositoryModelLoadRequest(model_name="linear", parameters=parameters)
        error = await failure(served.stub.RepositoryModelLoad(request))
        assert error.code() is grpc.StatusCode.INVALID_ARGUMENT
        assert key in (error.details() or "")


async def test_health_words_of_the_protocol_answer_while_a_server_loads() -> None:
    async with (
        Server(ServerConfig(metrics_port=None), "test", [SERVICE_NAME]) as server,
        open_channel(f"127.0.0.1:{server.port}", health_service=None) as channel,
    ):
        await channel.channel_ready()
        await mount(server, Repository(Path()))
        stub = Running(server, channel).stub
        assert (await stub.ServerLive(pb.ServerLiveRequest())).live
        assert not (await stub.ServerReady(pb.ServerReadyRequest())).ready
        assert not (await stub.ModelReady(pb.ModelReadyRequest(name="m"))).ready
        error = await failure(stub.ServerMetadata(pb.ServerMetadataRequest()))
        assert error.code() is grpc.StatusCode.UNAVAILABLE
