"""The ledger of a call tells where the server's time for it went, all of it."""

from contextlib import suppress
from pathlib import Path
from typing import Any

import grpc
import numpy as np
from prometheus_client import REGISTRY

from fomofeed.type.v1 import type_pb2
from inference import grpc_service_pb2 as pb
from serving.engines.engine import Arrays
from serving.engines.onnx import OnnxEngine
from serving.models.model import Model
from serving.models.served import FixedModels
from serving.models.shaped import ShapedModel
from serving.request import LEDGER_KEY
from serving.scheduling.scheduler import BatchingConfig
from tests.serving.oip.conftest import Running, ServeModels
from tests.serving.oip.requests import Copies, Input, raw_of, request, spec
from tests.serving.tiny_models import write_linear

METHOD = "inference.GRPCInferenceService/ModelInfer"
CALLS = 30


class Works(Copies):
    """Copies, after some milliseconds of work."""

    def infer(self, inputs: Arrays) -> dict[str, Any]:
        np.sort(np.random.default_rng(0).random(100_000))
        return super().infer(inputs)


def wall_s() -> float:
    """The server's time for all calls so far, as its own metric counts it."""
    found = REGISTRY.get_sample_value("fomofeed_rpc_duration_seconds_sum", {"method": METHOD})
    return found or 0.0


def of_rows(rows: int, width: int = 3) -> pb.ModelInferRequest:
    values = raw_of("FP32", [0] * (rows * width))
    return request(Input(name="x", datatype="FP32", shape=[rows, width]), raw=[values])


def parts_us(ledger: type_pb2.Ledger) -> int:
    within = ledger.queue_us + ledger.preprocess_us + ledger.compute_us
    return int(within + ledger.postprocess_us + ledger.other_us)


async def ledger_of(served: Running, message: pb.ModelInferRequest) -> type_pb2.Ledger:
    calling = served.stub.ModelInfer(message)
    with suppress(grpc.aio.AioRpcError):
        await calling
    trailers = dict(await calling.trailing_metadata())
    return type_pb2.Ledger.FromString(trailers[LEDGER_KEY])


async def check_whole(served: Running, message: pb.ModelInferRequest) -> type_pb2.Ledger:
    """Asks some times; the parts must sum to the server's time. Returns the last ledger."""
    before, measured, last = wall_s(), 0, type_pb2.Ledger()
    for _ in range(CALLS):
        last = await ledger_of(served, message)
        measured += parts_us(last)
    whole = (wall_s() - before) * 1e6
    assert 0.95 * whole <= measured <= 1.001 * whole + CALLS * 3  # of whole microseconds
    return last


async def test_parts_of_the_ledger_sum_to_the_servers_time(oip_on: ServeModels) -> None:
    async with Model("m", [Works(spec("x", "FP32", -1, 3))], BatchingConfig()) as model:
        ledger = await check_whole(await oip_on(FixedModels([model])), of_rows(1))
    assert ledger.compute_us > ledger.other_us


async def test_a_lone_call_finds_an_idle_engine_and_does_not_queue(oip_on: ServeModels) -> None:
    async with Model("m", [Works(spec("x", "FP32", -1, 3))], BatchingConfig()) as model:
        served = await oip_on(FixedModels([model]))
        waits_us = sorted([(await ledger_of(served, of_rows(1))).queue_us for _ in range(CALLS)])
    assert waits_us[CALLS // 4] <= 200  # a busy machine may stop the process in between


async def test_parts_sum_for_calls_too_short_for_a_queue(
    oip_on: ServeModels, tmp_path: Path
) -> None:
    engine = OnnxEngine(write_linear(tmp_path / "model.onnx"))
    async with Model("m", [engine], BatchingConfig()) as model:
        ledger = await check_whole(await oip_on(FixedModels([model])), of_rows(1))
    assert ledger.batch_rows == 1


async def test_parts_sum_for_refused_calls(oip_on: ServeModels) -> None:
    async with Model("m", [Works(spec("x", "FP32", -1, 3))], BatchingConfig()) as model:
        served = await oip_on(FixedModels([model]))
        ledger = await check_whole(served, of_rows(1, width=4))
        assert (ledger.compute_us, ledger.batch_rows) == (0, 0)
        assert parts_us(ledger) > 0


async def test_parts_sum_for_calls_larger_than_a_batch(oip_on: ServeModels) -> None:
    limits = BatchingConfig(max_batch_rows=4)
    async with Model("m", [Works(spec("x", "FP32", -1, 3))], limits) as model:
        ledger = await check_whole(await oip_on(FixedModels([model])), of_rows(10))
    assert (ledger.batch_rows, ledger.model.model) == (4, "m")
    assert ledger.queue_us > 0  # of the last part, behind two others


async def test_parts_sum_for_calls_that_cost_more_than_a_batch(oip_on: ServeModels) -> None:
    limits = BatchingConfig(max_batch_cost=6)
    works = Works(spec("x", "FP32", -1, 3))
    async with ShapedModel("m", [works], limits, cost_of="x") as model:
        ledger = await check_whole(await oip_on(FixedModels([model])), of_rows(5))
    assert (ledger.batch_rows, ledger.model.model) == (2, "m")
