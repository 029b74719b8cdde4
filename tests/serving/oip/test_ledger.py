"""The ledger of a call tells where the server's time for it went, all of it."""

from typing import Any

import numpy as np
from prometheus_client import REGISTRY

from fomofeed.type.v1 import type_pb2
from inference import grpc_service_pb2 as pb
from serving.engines.engine import Arrays
from serving.models.model import Model
from serving.models.served import FixedModels
from serving.request import LEDGER_KEY
from serving.scheduling.scheduler import BatchingConfig
from tests.serving.oip.conftest import ServeModels
from tests.serving.oip.requests import Copies, Input, raw_of, request, spec

METHOD = "inference.GRPCInferenceService/ModelInfer"


class Works(Copies):
    """Copies, after some milliseconds of work."""

    def infer(self, inputs: Arrays) -> dict[str, Any]:
        np.sort(np.random.default_rng(0).random(100_000))
        return super().infer(inputs)


def wall_s() -> float:
    """The server's time for all calls so far, as its own metric counts it."""
    found = REGISTRY.get_sample_value("fomofeed_rpc_duration_seconds_sum", {"method": METHOD})
    return found or 0.0


async def test_parts_of_the_ledger_sum_to_the_servers_time(oip_on: ServeModels) -> None:
    message = request(
        Input(name="x", datatype="FP32", shape=[1, 3]), raw=[raw_of("FP32", range(3))]
    )
    parts, measured = type_pb2.Ledger(), 0
    async with Model("m", [Works(spec("x", "FP32", -1, 3))], BatchingConfig()) as model:
        served = await oip_on(FixedModels([model]))
        before = wall_s()
        for _ in range(30):
            call = served.stub.ModelInfer(message)
            answer: pb.ModelInferResponse = await call
            assert answer.outputs
            trailers = dict(await call.trailing_metadata())
            parts = type_pb2.Ledger.FromString(trailers[LEDGER_KEY])
            measured += parts.queue_us + parts.preprocess_us + parts.compute_us
            measured += parts.postprocess_us + parts.other_us
        whole = (wall_s() - before) * 1e6
    assert parts.compute_us > parts.other_us
    assert 0.95 * whole <= measured <= 1.001 * whole
