import asyncio
from collections.abc import AsyncIterator, Sequence
from typing import Any

import grpc
import numpy as np
import pytest
from grpc_health.v1 import health_pb2, health_pb2_grpc

from fomofeed.type.v1 import type_pb2
from inference import grpc_service_pb2 as pb
from inference import model_config_pb2 as config_pb
from serving.models.model import Model
from serving.models.served import FixedModels
from serving.rpc.channels import status_of
from serving.scheduling.scheduler import BatchingConfig
from tests.serving.oip.conftest import Running, ServeModels
from tests.serving.oip.requests import Copies, Input, raw_of, spec, typed

DIGEST = "ab" * 32


def copies(version: str = "1", **limits: int) -> Model:
    """Model `m`: x FP32 [-1, 3] comes out as x_out."""
    ref = type_pb2.ModelRef(
        model="m", version=version, artifact_sha256=DIGEST, trained_on="nothing"
    )
    batching = BatchingConfig(max_batch_rows=8, **limits)
    return Model("m", [Copies(spec("x", "FP32", -1, 3))], batching, ref)


@pytest.fixture
async def served(oip_on: ServeModels) -> AsyncIterator[Running]:
    """A server of `m` in the versions 2 and 10."""
    async with copies("2") as two, copies("10") as ten:
        yield await oip_on(FixedModels([ten, two]))


def infer_request(rows: int = 1, **fields: Any) -> pb.ModelInferRequest:
    tensor = typed("x", "FP32", [rows, 3], range(rows * 3))
    return pb.ModelInferRequest(model_name="m", inputs=[tensor], **fields)


async def failure(call: Any) -> grpc.aio.AioRpcError:
    with pytest.raises(grpc.aio.AioRpcError) as caught:
        await call
    return caught.value


async def test_liveness_and_readiness_are_values(served: Running) -> None:
    assert (await served.stub.ServerLive(pb.ServerLiveRequest())).live
    assert (await served.stub.ServerReady(pb.ServerReadyRequest())).ready


@pytest.mark.parametrize(
    ("name", "version", "ready"),
    [("m", "", True), ("m", "2", True), ("m", "3", False), ("n", "", False), ("", "", False)],
)
async def test_a_model_is_ready_in_the_versions_that_serve(
    served: Running, name: str, version: str, ready: bool
) -> None:
    answer = await served.stub.ModelReady(pb.ModelReadyRequest(name=name, version=version))
    assert answer.ready is ready


async def test_server_metadata_lists_each_extension_by_name(served: Running) -> None:
    answer = await served.stub.ServerMetadata(pb.ServerMetadataRequest())
    assert answer.name == "fomofeed"
    assert answer.version
    assert {"model_configuration", "statistics", "artifact_digest"} <= set(answer.extensions)
    assert "model_repository" not in answer.extensions


async def test_model_metadata_has_tensors_versions_and_digest(served: Running) -> None:
    answer = await served.stub.ModelMetadata(pb.ModelMetadataRequest(name="m"))
    assert (answer.name, list(answer.versions)) == ("m", ["2", "10"])
    assert answer.platform == "onnx_onnxv1"
    (tensor,) = answer.inputs
    assert (tensor.name, tensor.datatype, list(tensor.shape)) == ("x", "FP32", [-1, 3])
    assert [tensor.name for tensor in answer.outputs] == ["x_out"]
    assert dict(answer.properties) == {
        "version": "10",
        "artifact_sha256": DIGEST,
        "experimental": "false",
        "trained_on": "nothing",
    }


@pytest.mark.parametrize(("asked", "answers"), [("", "10"), ("2", "2"), ("10", "10")])
async def test_a_given_version_answers_and_none_means_the_highest(
    served: Running, asked: str, answers: str
) -> None:
    answer = await served.stub.ModelInfer(infer_request(model_version=asked))
    assert (answer.model_name, answer.model_version) == ("m", answers)


@pytest.mark.parametrize("identifier", ["", "7", "ü" * 1000])
async def test_id_is_returned_unchanged(served: Running, identifier: str) -> None:
    assert (await served.stub.ModelInfer(infer_request(id=identifier))).id == identifier


async def test_an_answer_carries_the_digest_of_what_answered(served: Running) -> None:
    answer = await served.stub.ModelInfer(infer_request())
    assert answer.parameters["artifact_sha256"].string_param == DIGEST


async def test_ledger_of_an_inference_has_its_parts_and_the_model(served: Running) -> None:
    call = served.stub.ModelInfer(infer_request(rows=2))
    await call
    trailers = dict(await call.trailing_metadata())
    ledger = type_pb2.Ledger.FromString(trailers["fomofeed-ledger-bin"])
    assert (ledger.model.version, ledger.batch_rows) == ("10", 2)
    assert min(ledger.preprocess_us, ledger.compute_us, ledger.postprocess_us) > 0


@pytest.mark.parametrize(
    ("call", "message"),
    [
        ("ModelMetadata", pb.ModelMetadataRequest(name="n")),
        ("ModelConfig", pb.ModelConfigRequest(name="n")),
        ("ModelStatistics", pb.ModelStatisticsRequest(name="n")),
        ("ModelInfer", pb.ModelInferRequest(model_name="n")),
    ],
)
async def test_an_unknown_model_is_not_found_and_the_known_are_named(
    served: Running, call: str, message: Any
) -> None:
    error = await failure(getattr(served.stub, call)(message))
    assert error.code() is grpc.StatusCode.NOT_FOUND
    assert error.details() == "no model n; known: m"


async def test_an_unknown_version_is_not_found_and_the_known_are_named(served: Running) -> None:
    error = await failure(served.stub.ModelInfer(infer_request(model_version="3")))
    assert error.code() is grpc.StatusCode.NOT_FOUND
    assert error.details() == "no model version m/3; known: m/2, m/10"


async def test_a_wrong_request_is_refused_with_details_and_a_right_one_follows(
    served: Running,
) -> None:
    wrong = pb.ModelInferRequest(model_name="m", inputs=[typed("x", "FP32", [1, 2], [1, 2])])
    error = await failure(served.stub.ModelInfer(wrong))
    assert error.code() is grpc.StatusCode.INVALID_ARGUMENT
    assert error.details() == "inputs[x].shape is [1, 2], model m takes [-1, 3]"
    assert status_of(error).details
    assert (await served.stub.ModelInfer(infer_request())).outputs


async def test_an_empty_name_is_refused(served: Running) -> None:
    error = await failure(served.stub.ModelInfer(pb.ModelInferRequest()))
    assert error.details() == "model_name is empty, the name of a model"


async def test_more_rows_than_may_ever_wait_are_the_callers_mistake(oip_on: ServeModels) -> None:
    async with copies(max_queue_rows=16) as model:
        served = await oip_on(FixedModels([model]))
        assert (await served.stub.ModelInfer(infer_request(rows=16))).outputs[0].shape[0] == 16
        error = await failure(served.stub.ModelInfer(infer_request(rows=17)))
    assert error.code() is grpc.StatusCode.INVALID_ARGUMENT
    assert error.details() == "rows is 17, at most 16 in a request"


async def test_sequences_are_refused_rather_than_forgotten(served: Running) -> None:
    request = infer_request()
    request.parameters["sequence_id"].int64_param = 1
    error = await failure(served.stub.ModelInfer(request))
    assert error.details() == "parameters[sequence_id] is set, no sequences here"


async def test_timeout_parameter_shortens_the_deadline_and_never_lengthens_it(
    served: Running,
) -> None:
    request = infer_request()
    request.parameters["timeout"].int64_param = 1
    error = await failure(served.stub.ModelInfer(request))
    assert error.code() is grpc.StatusCode.DEADLINE_EXCEEDED
    request.parameters["timeout"].int64_param = 60_000_000
    assert (await served.stub.ModelInfer(request)).outputs
    request.parameters["timeout"].string_param = "soon"
    error = await failure(served.stub.ModelInfer(request))
    assert error.code() is grpc.StatusCode.INVALID_ARGUMENT


async def test_unknown_parameters_are_ignored(served: Running) -> None:
    request = infer_request()
    request.parameters["colour"].string_param = "blue"
    assert (await served.stub.ModelInfer(request)).outputs


async def test_config_is_what_a_client_of_triton_needs_to_make_a_batch(served: Running) -> None:
    config = (await served.stub.ModelConfig(pb.ModelConfigRequest(name="m"))).config
    assert (config.name, config.max_batch_size, config.backend) == ("m", 8, "onnxruntime")
    assert config.HasField("dynamic_batching")
    assert (list(config.input[0].dims), config.input[0].data_type) == ([3], config_pb.TYPE_FP32)
    assert [output.name for output in config.output] == ["x_out"]


async def test_config_of_a_model_without_rows_has_whole_shapes(oip_on: ServeModels) -> None:
    async with Model("fixed", [Copies(spec("x", "INT64", 2, -1))], BatchingConfig()) as model:
        served = await oip_on(FixedModels([model]))
        config = (await served.stub.ModelConfig(pb.ModelConfigRequest(name="fixed"))).config
    assert (config.max_batch_size, list(config.input[0].dims)) == (0, [2, -1])
    assert not config.HasField("dynamic_batching")


async def test_statistics_count_requests_rows_engine_calls_and_failures(served: Running) -> None:
    for rows in (1, 3, 3):
        await served.stub.ModelInfer(infer_request(rows))
    await failure(served.stub.ModelInfer(pb.ModelInferRequest(model_name="m")))
    answer = await served.stub.ModelStatistics(pb.ModelStatisticsRequest(name="m", version="10"))
    (stats,) = answer.model_stats
    assert (stats.name, stats.version) == ("m", "10")
    assert (stats.inference_count, stats.execution_count) == (7, 3)
    assert (stats.inference_stats.success.count, stats.inference_stats.fail.count) == (3, 1)
    parts = stats.inference_stats
    inside = parts.queue.ns + parts.compute_input.ns + parts.compute_infer.ns
    assert 0 < inside + parts.compute_output.ns <= parts.success.ns
    assert [(batch.batch_size, batch.compute_infer.count) for batch in stats.batch_stats] == [
        (1, 1),
        (3, 2),
    ]
    assert stats.last_inference > 0


async def test_statistics_of_all_models_come_at_once(served: Running) -> None:
    answer = await served.stub.ModelStatistics(pb.ModelStatisticsRequest())
    assert [(stats.name, stats.version) for stats in answer.model_stats] == [
        ("m", "2"),
        ("m", "10"),
    ]


async def test_fixed_models_are_listed_and_can_neither_be_loaded_nor_unloaded(
    served: Running,
) -> None:
    index = await served.stub.RepositoryIndex(pb.RepositoryIndexRequest())
    assert [(model.name, model.version, model.state) for model in index.models] == [
        ("m", "2", "READY"),
        ("m", "10", "READY"),
    ]
    for call, kind in (
        (served.stub.RepositoryModelLoad, pb.RepositoryModelLoadRequest),
        (served.stub.RepositoryModelUnload, pb.RepositoryModelUnloadRequest),
    ):
        error = await failure(call(kind(model_name="m")))
        assert error.code() is grpc.StatusCode.UNIMPLEMENTED


async def test_callers_that_share_batches_get_their_own_rows(served: Running) -> None:
    async def ask(number: int) -> Sequence[float]:
        values = np.full(3 * (1 + number % 3), number, "<f4")
        tensor = Input(name="x", datatype="FP32", shape=[len(values) // 3, 3])
        request = pb.ModelInferRequest(
            model_name="m", inputs=[tensor], raw_input_contents=[values.tobytes()]
        )
        answer = await served.stub.ModelInfer(request)
        assert list(answer.outputs[0].shape) == [len(values) // 3, 3]
        return list(np.frombuffer(answer.raw_output_contents[0], "<f4"))

    answers = await asyncio.gather(*(ask(number) for number in range(60)))
    for number, values in enumerate(answers):
        assert set(values) == {float(number)}


@pytest.mark.parametrize("method", ["ModelStreamInfer", "TraceSetting", "SystemSharedMemoryStatus"])
async def test_what_is_left_out_is_unimplemented(served: Running, method: str) -> None:
    call = served.channel.unary_unary(f"/inference.GRPCInferenceService/{method}")
    assert (await failure(call(b""))).code() is grpc.StatusCode.UNIMPLEMENTED


async def test_each_model_has_a_health_name(served: Running) -> None:
    health = health_pb2_grpc.HealthStub(served.channel)
    for name in ("", "inference.GRPCInferenceService", "m"):
        status = await health.Check(health_pb2.HealthCheckRequest(service=name))
        assert status.status == health_pb2.HealthCheckResponse.SERVING


async def test_raw_answers_equal_raw_requests_for_large_tensors(served: Running) -> None:
    raw = raw_of("FP32", range(3 * 8))
    tensor = Input(name="x", datatype="FP32", shape=[8, 3])
    request = pb.ModelInferRequest(model_name="m", inputs=[tensor], raw_input_contents=[raw])
    assert list((await served.stub.ModelInfer(request)).raw_output_contents) == [raw]


async def test_bytes_that_are_no_message_are_the_callers_mistake(served: Running) -> None:
    call = served.channel.unary_unary("/inference.GRPCInferenceService/ModelInfer")
    error = await failure(call(b"\xff\xff"))
    assert error.code() is grpc.StatusCode.INVALID_ARGUMENT
    assert error.details() == "message is 2 bytes, a message of the method's type"
