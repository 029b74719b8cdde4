"""Torch files in a model repository: served, described, verified and swapped as ONNX files are."""

import asyncio
from pathlib import Path
from typing import Any

import numpy as np
import pytest

pytestmark = pytest.mark.extras
pytest.importorskip("torch", reason="needs the extra torch")

from inference import grpc_service_pb2 as pb  # noqa: E402  # after the check for Torch
from serving.errors import ModelLoadError  # noqa: E402
from serving.models.repository import Repository  # noqa: E402
from tests.serving import tiny_torch  # noqa: E402
from tests.serving.models.linear_repository import flip_a_byte, index_of, promise  # noqa: E402
from tests.serving.oip.conftest import ServeModels, oip_on  # noqa: E402, F401  # a fixture

ONES = np.ones((2, 3), np.float32)


def put(root: Path, version: str = "1", scale: float = 2.0) -> Path:
    return tiny_torch.export(root / "linear" / version / "model.pt2", tiny_torch.Linear(scale))


def configure(root: Path, text: str) -> None:
    (root / "linear" / "model.yaml").write_text(text)


async def scale_of(repository: Repository) -> float:
    with repository.find("linear") as served:
        return float((await served.model.infer({"x": ONES}))["y"][0, 0]) - 1


async def test_an_export_is_asked_and_described_over_the_protocol(
    tmp_path: Path,
    oip_on: ServeModels,  # noqa: F811
) -> None:
    path = put(tmp_path)
    promise(path)
    server: Any = await oip_on(Repository(tmp_path))
    metadata = await server.stub.ModelMetadata(pb.ModelMetadataRequest(name="linear"))
    assert metadata.platform == "pytorch_export"
    assert [(t.name, t.datatype, [*t.shape]) for t in metadata.inputs] == [("x", "FP32", [-1, 3])]
    config = (await server.stub.ModelConfig(pb.ModelConfigRequest(name="linear"))).config
    assert (config.backend, config.default_model_filename) == ("pytorch", "model.pt2")
    tensor = pb.ModelInferRequest.InferInputTensor(name="x", datatype="FP32", shape=[2, 3])
    request = pb.ModelInferRequest(model_name="linear", inputs=[tensor])
    request.raw_input_contents.append(ONES.tobytes())
    answer = await server.stub.ModelInfer(request)
    assert np.frombuffer(answer.raw_output_contents[0], np.float32).tolist() == [3.0] * 6
    digest = answer.parameters["artifact_sha256"].string_param
    assert digest == path.with_name("model.pt2.sha256").read_text().split()[0]


async def test_a_flipped_byte_leaves_the_old_export_serving(tmp_path: Path) -> None:
    path = put(tmp_path)
    promise(path)
    async with Repository(tmp_path) as repository:
        flip_a_byte(path)
        with pytest.raises(ModelLoadError, match="SHA-256"):
            await repository.load("linear")
        assert await scale_of(repository) == 2


async def test_a_broken_version_leaves_the_old_export_serving(tmp_path: Path) -> None:
    put(tmp_path)
    async with Repository(tmp_path) as repository:
        broken = tmp_path / "linear" / "2" / "model.pt2"
        broken.parent.mkdir()
        broken.write_bytes(b"no export")
        with pytest.raises(ModelLoadError, match="linear"):
            await repository.load("linear")
        assert await scale_of(repository) == 2
        put(tmp_path, "2", scale=5.0)
        await repository.load("linear")
        assert await scale_of(repository) == 5
        await repository.unload("linear")


async def test_rows_that_mix_are_never_batched(tmp_path: Path) -> None:
    tiny_torch.export(tmp_path / "mean" / "1" / "model.pt2", tiny_torch.BatchMean())
    async with Repository(tmp_path) as repository:
        assert not repository.find("mean").model.is_batched


async def test_batches_are_no_larger_than_the_export_allows(tmp_path: Path) -> None:
    path = tmp_path / "linear" / "1" / "model.pt2"
    tiny_torch.export(path, tiny_torch.Linear(), max_rows=5)
    async with Repository(tmp_path) as repository:
        with repository.find("linear") as served:
            assert served.model.batcher.scheduler.config.max_batch_rows == 5
            answer = await served.model.infer({"x": np.ones((12, 3), np.float32)})
        assert answer["y"].shape == (12, 3)


async def test_bfloat16_beyond_the_stated_tolerance_does_not_load(tmp_path: Path) -> None:
    path = tmp_path / "linear" / "1" / "model.pt2"
    tiny_torch.export(path, tiny_torch.mlp(), 8)
    configure(tmp_path, "{precision: bf16, tolerance: 0.0000001}")
    async with Repository(tmp_path) as repository:
        _, reason = (await index_of(repository))["linear", "1"]
        assert reason.startswith("engine torch-bf16 is off by ")
        configure(tmp_path, "{precision: bf16, tolerance: 0.05}")
        await repository.load("linear")


async def test_auto_measures_torch_and_what_else_reads_an_export(tmp_path: Path) -> None:
    pytest.importorskip("openvino", reason="needs the extra openvino")
    path = put(tmp_path)
    configure(tmp_path, "engine: auto")
    async with Repository(tmp_path) as repository:
        assert await scale_of(repository) == 2
    kept = path.with_name("engine.json").read_text()
    assert '"torch"' in kept
    assert '"openvino"' in kept
    assert '"error": ""' in kept


async def test_sequences_of_different_lengths_are_padded_to_common_ones(tmp_path: Path) -> None:
    tiny_torch.export_embedder(tmp_path / "text" / "1" / "model.pt2")
    (tmp_path / "text" / "model.yaml").write_text(
        "padding: {lengths: [4, 8], inputs: {ids: 0, mask: 0}, outputs: [embedding]}"
    )
    ids = {"ids": np.full((1, 3), 7), "mask": np.ones((1, 3), np.int64)}
    async with Repository(tmp_path) as repository:
        with repository.find("text") as served:
            answer = await served.model.infer(ids)
    assert [array.shape for array in answer.values()] == [(1, 3, 8), (1, 8)]
    np.testing.assert_allclose(answer["div"], answer["embedding"][:, 0], atol=1e-6)


async def test_padding_that_leaks_does_not_load(tmp_path: Path) -> None:
    tiny_torch.export_embedder(tmp_path / "text" / "1" / "model.pt2", heeds_mask=False)
    (tmp_path / "text" / "model.yaml").write_text(
        "padding: {lengths: [4, 8], inputs: {ids: 0, mask: 0}, outputs: [embedding]}"
    )
    async with Repository(tmp_path) as repository:
        _, reason = (await index_of(repository))["text", "1"]
        assert reason == "padding leaks into output div; is a mask missing?"


def put_factory(folder: Path, module: str) -> None:
    """Puts a factory that makes a module of `tiny_torch` into a repository."""
    folder.mkdir(parents=True)
    (folder / "model.py").write_text(
        "from tests.serving import tiny_torch\n"
        f"def load(folder, device, threads):\n    return tiny_torch.{module}()\n"
    )


async def test_torchs_own_bag_of_embeddings_is_ragged_as_it_is(tmp_path: Path) -> None:
    put_factory(tmp_path / "text" / "1", "bag")
    (tmp_path / "text" / "model.yaml").write_text(
        "ragged: {inputs: [ids], batch_inputs: {ends: accumulated_element_count_with_zero}}\n"
        "inputs: [{name: ids, dtype: int64, shape: [-1]}, "
        "{name: ends, dtype: int64, shape: [-1]}]\n"
        "outputs: [{name: vector, dtype: float32, shape: [-1, 8]}]\n"
    )
    weights: Any = tiny_torch.bag().weight
    texts = [np.arange(length)[None] + 1 for length in (3, 1, 9)]
    async with Repository(tmp_path, allows_code=True) as repository:
        with repository.find("text") as served:
            answers = await asyncio.gather(*(served.model.infer({"ids": ids}) for ids in texts))
    for ids, answer in zip(texts, answers, strict=True):
        means = weights.detach().numpy()[ids].mean(1)
        np.testing.assert_allclose(answer["vector"], means, atol=1e-6)


async def test_a_module_of_a_factory_is_served_by_torch(tmp_path: Path) -> None:
    put_factory(tmp_path / "linear" / "1", "mlp")
    configure(
        tmp_path,
        "inputs: [{name: x, dtype: float32, shape: [-1, 8]}]\n"
        "outputs: [{name: y, dtype: float32, shape: [-1, 3]}]\n",
    )
    async with Repository(tmp_path, allows_code=True) as repository:
        with repository.find("linear") as served:
            assert served.format.platform == "python_factory"
            answer = await served.model.infer({"x": np.zeros((2, 8), np.float32)})
    assert answer["y"].shape == (2, 3)
