import asyncio
import hashlib
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import yaml

from serving.errors import ModelLoadError, NotFoundError, NotReadyError
from serving.models.artifacts import ArtifactError
from serving.models.repository import Repository
from tests.serving.models.linear_repository import (
    configure,
    flip_a_byte,
    index_of,
    promise,
    put,
    scale_of,
)
from tests.serving.tiny_models import write_batch_mean, write_text

FILES = "model.onnx, model.pt2, model.pt or model.py"


async def test_the_highest_version_serves_and_numbers_sort_as_numbers(tmp_path: Path) -> None:
    for version, scale in (("2", 2.0), ("10", 10.0), ("9", 9.0)):
        put(tmp_path, version, scale)
    async with Repository(tmp_path) as repository:
        assert await scale_of(repository) == 10
        assert [served.version for served in repository.serving()] == ["10"]


async def test_names_types_and_shapes_are_read_from_the_model(tmp_path: Path) -> None:
    put(tmp_path, "1")
    async with Repository(tmp_path) as repository:
        (served,) = repository.serving()
        assert [(spec.name, spec.shape) for spec in served.model.inputs] == [("x", (-1, 3))]
        assert served.model.is_batched


async def test_hidden_folders_and_loose_files_are_no_models(tmp_path: Path) -> None:
    put(tmp_path, "1")
    put(tmp_path, ".2")
    put(tmp_path, "1", name=".hidden")
    (tmp_path / "README.md").write_text("hello")
    (tmp_path / "linear" / "notes").mkdir()
    async with Repository(tmp_path) as repository:
        assert list(await index_of(repository)) == [("linear", "1")]


async def test_versions_of_the_policy_serve_side_by_side(tmp_path: Path) -> None:
    for version in ("1", "2", "3"):
        put(tmp_path, version, float(version))
    configure(tmp_path, 'versions: ["1", "3"]')
    async with Repository(tmp_path) as repository:
        assert [await scale_of(repository, v) for v in ("1", "3", "")] == [1, 3, 3]
        with pytest.raises(NotFoundError, match="no model version linear/2; known: linear/1, lin"):
            repository.find("linear", "2")


async def test_options_reach_the_model(tmp_path: Path) -> None:
    put(tmp_path, "1")
    configure(tmp_path, "{batching: {max_batch_rows: 5}, instances: 2}")
    async with Repository(tmp_path) as repository:
        (served,) = repository.serving()
        assert served.model.instance_count == 2
        assert served.model.batcher.scheduler.config.max_batch_rows == 5


async def test_digest_of_a_bare_model_is_computed(tmp_path: Path) -> None:
    path = put(tmp_path, "1")
    async with Repository(tmp_path) as repository:
        digest = repository.find("linear").digest
    assert digest == hashlib.sha256(path.read_bytes()).hexdigest()


@pytest.mark.parametrize("with_manifest", [False, True])
async def test_a_flipped_byte_refuses_to_load(tmp_path: Path, with_manifest: bool) -> None:
    path = put(tmp_path, "1")
    if with_manifest:
        write_manifest(path)
    else:
        promise(path)
    async with Repository(tmp_path) as repository:
        assert await scale_of(repository) == 1
    flip_a_byte(path)
    async with Repository(tmp_path) as repository:
        with pytest.raises(NotReadyError, match="not serving linear"):
            repository.find("linear")
        state, reason = (await index_of(repository))["linear", "1"]
        assert state == "UNAVAILABLE"
        assert "SHA-256 digest" in reason
        assert str(tmp_path) not in reason
        assert not repository.is_ready()


def write_manifest(path: Path, **changes: Any) -> None:
    digest = hashlib.sha256(path.read_bytes()).hexdigest()
    manifest = {
        "name": "linear",
        "version": "1",
        "file": path.name,
        "sha256": digest,
        "license": "MIT",
        "trained_on": "nothing",
        "metric": "none",
        "experimental": True,
        "source": {
            "kind": "trained-here",
            "file": "linear.onnx",
            "sha256": digest,
            "command": "python -m linear",
        },
        **changes,
    }
    path.with_name("manifest.yaml").write_text(yaml.safe_dump(manifest))


async def test_a_manifest_tells_who_the_model_is_and_how_large_a_batch_pays(tmp_path: Path) -> None:
    write_manifest(put(tmp_path, "1"), max_batch_rows=7)
    async with Repository(tmp_path) as repository:
        model = repository.find("linear").model
        assert (model.ref.trained_on, model.ref.experimental) == ("nothing", True)
        assert model.batcher.scheduler.config.max_batch_rows == 7


async def test_a_manifest_that_promises_other_tensors_refuses_to_load(tmp_path: Path) -> None:
    tensors = [{"name": "x", "dtype": "float32", "shape": [-1, 4]}]
    write_manifest(put(tmp_path, "1"), inputs=tensors)
    async with Repository(tmp_path) as repository:
        _, reason = (await index_of(repository))["linear", "1"]
        assert "its manifest says" in reason


async def test_weights_beside_the_model_are_verified_by_their_own_digest(tmp_path: Path) -> None:
    weights = put(tmp_path, "1").with_name("weights.bin")
    weights.write_bytes(b"weights")
    promise(weights, digest="0" * 64)
    async with Repository(tmp_path) as repository:
        _, reason = (await index_of(repository))["linear", "1"]
        assert reason.startswith("linear/1/weights.bin has SHA-256 digest")


@pytest.mark.parametrize("content", [b"", b"no protobuf at all", b"\x08\x08"])
async def test_a_broken_file_is_told_in_the_index_and_the_others_serve(
    tmp_path: Path, content: bytes
) -> None:
    put(tmp_path, "1")
    put(tmp_path, "1", name="broken").write_bytes(content)
    async with Repository(tmp_path) as repository:
        assert await scale_of(repository) == 1
        state, reason = (await index_of(repository))["broken", "1"]
        assert state == "UNAVAILABLE"
        assert reason
        assert str(tmp_path) not in reason
        assert not repository.is_ready()


async def test_a_file_that_no_engine_runs_is_listed_and_does_not_count_as_missing(
    tmp_path: Path,
) -> None:
    path = put(tmp_path, "1", name="linear")
    write_manifest(path, file="table.npz", sha256=hashlib.sha256(b"table").hexdigest())
    path.with_name("table.npz").write_bytes(b"table")
    async with Repository(tmp_path) as repository:
        _, reason = (await index_of(repository))["linear", "1"]
        assert reason == "table.npz is no model that an engine here runs"
        assert repository.is_ready()


async def test_a_folder_without_a_version_is_told(tmp_path: Path) -> None:
    (tmp_path / "empty").mkdir()
    async with Repository(tmp_path) as repository:
        assert await index_of(repository) == {
            ("empty", ""): ("UNAVAILABLE", f"empty has no folder of a version with {FILES}")
        }


async def test_no_folder_no_repository(tmp_path: Path) -> None:
    with pytest.raises(ArtifactError, match="no model repository"):
        async with Repository(tmp_path / "nowhere"):
            pass


async def test_rows_that_are_not_apart_are_never_batched(tmp_path: Path) -> None:
    folder = tmp_path / "mean" / "1"
    folder.mkdir(parents=True)
    write_batch_mean(folder / "model.onnx")
    async with Repository(tmp_path) as repository:
        model = repository.find("mean").model
        assert not model.is_batched
        answers = await asyncio.gather(
            *(model.infer({"x": np.full((2, 3), i, np.float32)}) for i in range(8))
        )
        assert [float(answer["y"][0]) for answer in answers] == list(range(8))


async def test_texts_go_in_and_out(tmp_path: Path) -> None:
    folder = tmp_path / "text" / "1"
    folder.mkdir(parents=True)
    write_text(folder / "model.onnx")
    async with Repository(tmp_path) as repository:
        model = repository.find("text").model
        texts = np.array([[b"a\0b"], ["grün".encode()]], object)
        answer = await model.infer({"x": texts})
    assert answer["y"].tolist() == [["a\0b"], ["grün"]]


async def test_named_warm_up_shapes_that_do_not_run_refuse_to_load(tmp_path: Path) -> None:
    put(tmp_path, "1")
    configure(tmp_path, "warm_up: [{x: [-1, 4]}]")
    async with Repository(tmp_path) as repository:
        _, reason = (await index_of(repository))["linear", "1"]
        assert "does not run on zeros of {'x': (-1, 4)}" in reason
        configure(tmp_path, "warm_up: [{z: [-1, 3]}]")
        with pytest.raises(ModelLoadError, match="warm_up names z, expected x"):
            await repository.load("linear")
