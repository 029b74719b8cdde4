"""The client against a real server on a free port."""

import asyncio
import io
from typing import Any

import grpc
import numpy as np
import pytest
from grpc_health.v1 import health_pb2
from PIL import Image

from cluster.arguments import parse
from cluster.errors import CommandError
from cluster.load.arrivals import constant
from cluster.load.client import OpenLoop
from cluster.load.fleet import Fleet
from cluster.load.oip import infer_request, mixed
from cluster.load.reflection import request_bytes
from cluster.load.targets import Cycle, DistinctPhotos, Target, is_degraded
from fomofeed.gateway.v1 import orchestrator_service_pb2 as gateway_pb
from inference import grpc_service_pb2 as oip_pb
from tests.load.programmable_server import METHOD, ProgrammableServer, at_once, serving


def payloads(*names: str) -> Cycle:
    requests = [health_pb2.HealthCheckRequest(service=name) for name in names]
    return Cycle(tuple(request.SerializeToString() for request in requests))


async def run(target: Target, offsets: Any, timeout_s: float) -> Any:
    channel, call = target.open()
    async with channel:
        return await OpenLoop(call, offsets, timeout_s).run(asyncio.get_running_loop().time())


async def test_every_call_of_the_schedule_reaches_the_server_once() -> None:
    server = ProgrammableServer(at_once)
    async with serving(server) as address:
        outcomes = await run(Target(address, METHOD, payloads("a", "b")), constant(400, 0.25), 5)
    assert outcomes.counts() == {"OK": 100}
    assert sorted(server.requests) == ["a"] * 50 + ["b"] * 50
    assert (outcomes.ended >= outcomes.sent).all()


async def test_statuses_of_the_server_are_counted_by_name() -> None:
    async def refuse_every_third(number: int, context: Any) -> None:
        if number % 3 == 0:
            await context.abort(grpc.StatusCode.RESOURCE_EXHAUSTED)

    async with serving(ProgrammableServer(refuse_every_third)) as address:
        outcomes = await run(Target(address, METHOD, payloads("a")), constant(300, 0.1), 5)
    assert outcomes.counts() == {"OK": 20, "RESOURCE_EXHAUSTED": 10}


async def test_a_hanging_server_meets_the_deadline_of_each_call() -> None:
    async def hang(number: int, context: Any) -> None:
        await asyncio.Event().wait()

    async with serving(ProgrammableServer(hang)) as address:
        outcomes = await run(Target(address, METHOD, payloads("a")), constant(50, 0.1), 0.2)
    assert outcomes.counts() == {"DEADLINE_EXCEEDED": 5}
    assert (outcomes.latency >= 0.19).all()


async def test_a_stall_of_a_real_server_is_in_the_latencies_of_all_who_waited() -> None:
    async def stall_once(number: int, context: Any) -> None:
        if number == 20:
            await asyncio.sleep(0.2)

    async with serving(ProgrammableServer(stall_once)) as address:
        outcomes = await run(Target(address, METHOD, payloads("a")), constant(200, 0.5), 5)
    assert outcomes.counts() == {"OK": 100}
    assert np.quantile(outcomes.latency, 0.99) > 0.18
    assert (outcomes.latency > 0.05).sum() > 20


async def test_client_processes_share_a_schedule_and_say_what_they_cost() -> None:
    server = ProgrammableServer(at_once)
    async with serving(server) as address:
        seen: list[tuple[int, int]] = []

        def measure() -> Any:
            with Fleet(Target(address, METHOD, payloads("a")), processes=2) as fleet:
                return fleet.measure(constant(100, 0.6), 5, lambda *told: seen.append(told))

        outcomes, cores = await asyncio.to_thread(measure)
    assert outcomes.counts() == {"OK": 60}
    assert len(server.requests) == 60
    assert 0 < cores < 2
    assert seen[-1][0] <= 60


async def test_reflection_encodes_json_for_a_method_nobody_told_us_of() -> None:
    async with serving(ProgrammableServer(at_once)) as address:
        encoded = await asyncio.to_thread(request_bytes, address, METHOD, '{"service": "x"}')
    assert health_pb2.HealthCheckRequest.FromString(encoded).service == "x"


@pytest.mark.parametrize(
    ("method", "data", "words"),
    [
        ("grpc.health.v1.Health/Nope", "{}", "no method 'Nope'"),
        ("no.such.Service/Call", "{}", "no service 'no.such.Service'"),
        (METHOD, '{"colour": 1}', "does not fit grpc.health.v1.HealthCheckRequest"),
        (METHOD.replace("Check", "Watch"), "{}", "streams"),
    ],
)
async def test_a_call_that_cannot_be_made_is_explained(method: str, data: str, words: str) -> None:
    async with serving(ProgrammableServer(at_once)) as address:
        with pytest.raises(CommandError, match=words):
            await asyncio.to_thread(request_bytes, address, method, data)


def test_distinct_photos_differ_for_a_cache_and_not_for_the_eye() -> None:
    picture = np.random.default_rng(1).integers(0, 255, (16, 16, 3), dtype=np.uint8)
    encoded = io.BytesIO()
    Image.fromarray(picture).save(encoded, "JPEG")
    make = DistinctPhotos((encoded.getvalue(),), user_id=3, nonce=b"run")
    requests = [gateway_pb.OrchestrateRequest.FromString(make(index)) for index in (0, 1, 1)]
    assert requests[0].media != requests[1].media == requests[2].media
    decoded = [np.asarray(Image.open(io.BytesIO(request.media))) for request in requests]
    assert np.array_equal(decoded[0], decoded[1])
    assert requests[0].user_id == 3


def test_degraded_answers_are_told_apart() -> None:
    degraded = gateway_pb.OrchestrateResponse(degraded=True).SerializeToString()
    assert is_degraded(degraded) != is_degraded(b"")


def test_an_inference_request_fits_the_models_metadata() -> None:
    metadata = oip_pb.ModelMetadataResponse(name="m")
    metadata.inputs.add(name="x", datatype="FP32", shape=[-1, 3])
    metadata.inputs.add(name="ids", datatype="INT64", shape=[-1, -1])
    metadata.inputs.add(name="words", datatype="BYTES", shape=[2])
    encoded = infer_request(metadata, rows=2, length=5, rng=np.random.default_rng(1))
    request = oip_pb.ModelInferRequest.FromString(encoded)
    assert [list(tensor.shape) for tensor in request.inputs] == [[2, 3], [2, 5], [2]]
    floats, ids, words = request.raw_input_contents
    assert 0 <= np.frombuffer(floats, "<f4").min() <= np.frombuffer(floats, "<f4").max() < 1
    assert set(np.frombuffer(ids, "<i8")) <= {0, 1}
    assert words.count(b"word") == 2


def test_mixed_lengths_cover_their_range_evenly_and_are_those_of_the_seed() -> None:
    lengths = mixed(range(8, 65), seed=1)
    assert (min(lengths), max(lengths)) == (8, 64)
    assert abs(np.mean(lengths) - 36) < 0.5
    assert lengths == mixed(range(8, 65), seed=1) != sorted(lengths)
    assert set(mixed(range(5, 6), seed=1)) == {5}


@pytest.mark.parametrize("given", ["9-8", "-3", "short", "8-64-2"])
def test_a_range_of_lengths_that_is_none_is_refused(
    given: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert parse(["load", "--oip", "m", "--length", "8-64"]).length == range(8, 65)
    with pytest.raises(SystemExit):
        parse(["load", "--oip", "m", f"--length={given}"])
    assert given in capsys.readouterr().err


def test_the_command_line_knows_what_to_ask(capsys: pytest.CaptureFixture[str]) -> None:
    assert parse(["load", "--call", "a.B/C", "--search", "100"]).search == 100
    with pytest.raises(SystemExit):
        parse(["load", "--rate", "1"])
    assert "--photo --call --oip" in capsys.readouterr().err
