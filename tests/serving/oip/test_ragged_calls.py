"""A ragged model as its callers see it: rows of any length, and nothing of how they are joined."""

import asyncio
from collections.abc import AsyncIterator
from pathlib import Path

import grpc
import numpy as np
import pytest

from inference import grpc_service_pb2 as pb
from serving.models.repository import Repository
from tests.serving.oip.conftest import Running, ServeModels
from tests.serving.oip.requests import Input, typed
from tests.serving.tiny_models import write_ragged

OPTIONS = "{inputs: [ids], batch_inputs: {ends: accumulated_element_count}, outputs: [each]}"


@pytest.fixture
async def served(oip_on: ServeModels, tmp_path: Path) -> AsyncIterator[Running]:
    """A server of a model that sums and doubles ids."""
    write_ragged(tmp_path / "sums" / "1" / "model.onnx")
    (tmp_path / "sums" / "model.yaml").write_text(f"ragged: {OPTIONS}")
    yield await oip_on(Repository(tmp_path))


def ids(rows: int, length: int) -> Input:
    return typed("ids", "INT64", [rows, length], range(rows * length))


def asked(*inputs: Input) -> pb.ModelInferRequest:
    return pb.ModelInferRequest(model_name="sums", inputs=inputs)


async def test_rows_of_all_lengths_are_answered_each_with_its_own(served: Running) -> None:
    sizes = [(1 + at % 3, at) for at in range(1, 20)]
    answers = await asyncio.gather(*(served.stub.ModelInfer(asked(ids(*size))) for size in sizes))
    for (rows, length), answer in zip(sizes, answers, strict=True):
        sent = np.arange(rows * length).reshape(rows, length)
        sums, each = (np.array(o.contents.int64_contents) for o in answer.outputs)
        assert [list(output.shape) for output in answer.outputs] == [[rows], [rows, length]]
        np.testing.assert_array_equal(sums, sent.sum(1))
        np.testing.assert_array_equal(each.reshape(rows, length), sent * 2)


async def test_metadata_and_config_tell_rows_and_not_where_they_end(served: Running) -> None:
    metadata = await served.stub.ModelMetadata(pb.ModelMetadataRequest(name="sums"))
    assert [(t.name, list(t.shape)) for t in metadata.inputs] == [("ids", [-1, -1])]
    assert [list(t.shape) for t in metadata.outputs] == [[-1], [-1, -1]]
    config = (await served.stub.ModelConfig(pb.ModelConfigRequest(name="sums"))).config
    assert [(i.name, i.allow_ragged_batch) for i in config.input] == [("ids", True)]


async def test_rows_are_counted_as_rows(served: Running) -> None:
    await served.stub.ModelInfer(asked(ids(2, 5)))
    answer = await served.stub.ModelStatistics(pb.ModelStatisticsRequest(name="sums"))
    (told,) = answer.model_stats
    assert told.inference_count == 2
    assert [batch.batch_size for batch in told.batch_stats] == [2]


async def test_where_rows_end_is_not_for_callers_to_say(served: Running) -> None:
    ends = typed("ends", "INT64", [1], [3])
    with pytest.raises(grpc.aio.AioRpcError) as caught:
        await served.stub.ModelInfer(asked(ids(1, 3), ends))
    assert caught.value.code() is grpc.StatusCode.INVALID_ARGUMENT
    assert "ends" in str(caught.value.details())
