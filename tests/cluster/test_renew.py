"""What `fomofeed models reload` says of servers that cannot take up a new version."""

from pathlib import Path
from typing import Any

from cluster.renew import Told, renew
from inference import grpc_service_pb2_grpc as pb_grpc
from serving.engines.onnx import OnnxEngine
from serving.models.model import Model
from serving.models.served import FixedModels
from serving.oip.servicer import InferenceServicer
from serving.scheduling.scheduler import BatchingConfig
from tests.serving.tiny_models import write_linear


async def test_models_that_come_with_their_server_say_so(serving_on: Any, tmp_path: Path) -> None:
    engine = OnnxEngine(write_linear(tmp_path / "linear.onnx"))
    async with Model("linear", [engine], BatchingConfig()) as model:
        servicer = InferenceServicer(FixedModels([model]))
        add = pb_grpc.add_GRPCInferenceServiceServicer_to_server
        clip = (await serving_on([(add, servicer)])).target
        assert [told async for told in renew({"clip": clip})] == [
            Told("clip", "linear 1: taken up at its next start alone")
        ]


async def test_a_server_without_models_is_passed_over_and_one_that_is_down_is_told(
    serving_on: Any,
) -> None:
    target = (await serving_on([])).target
    down, nobody = "127.0.0.1:1", {"text": target, "clip": "127.0.0.1:1"}
    (told,) = [told async for told in renew(nobody)]
    assert (told.server, told.is_well) == ("clip", False)
    assert told.text == f"no server answers (UNAVAILABLE from {down})"
