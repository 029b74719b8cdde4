import asyncio
import hashlib
from collections import defaultdict
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import yaml
from prometheus_client import REGISTRY

from serving.errors import ModelLoadError, NotFoundError, NotReadyError
from serving.models.artifacts import ArtifactError
from serving.models.repository import Repository
from tests.serving.tiny_models import write_batch_mean, write_linear, write_text

FILES = "model.onnx, model.pt2, model.pt or model.py"


def put(root: Path, version: str, scale: float = 1.0, name: str = "linear") -> Path:
    """Puts `y = scale * x + 1` into a repository."""
    folder = root / name / version
    folder.mkdir(parents=True, exist_ok=True)
    return write_linear(folder / "model.onnx", scale=scale)


def configure(root: Path, text: str, name: str = "linear") -> None:
    (root / name / "model.yaml").write_text(text)


def promise(path: Path, digest: str | None = None) -> None:
    """Writes the file that `sha256sum model.onnx > model.onnx.sha256` would."""
    digest = digest or hashlib.sha256(path.read_bytes()).hexdigest()
    path.with_name(f"{path.name}.sha256").write_text(f"{digest}  {path.name}\n")


def flip_a_byte(path: Path) -> None:
    content = bytearray(path.read_bytes())
    content[len(content) // 2] ^= 1
    path.write_bytes(content)


async def scale_of(repository: Repository, version: str = "") -> float:
    """Asks the model for its factor."""
    with repository.find("linear", version) as served:
        answer = await served.model.infer({"x": np.ones((1, 3), np.float32)})
        return float(answer["y"][0, 0]) - 1


async def index_of(repository: Repository) -> Mapping[tuple[str, str], tuple[str, str]]:
    lines = await repository.index()
    return {(line.name, line.version): (line.state, line.reason) for line in lines}


class Observer:
    """Remembers what it was last told of each name."""

    def __init__(self) -> None:
        self.serves: dict[str, bool] = {}
        self.told_of_an_end = asyncio.Event()

    async def __call__(self, name: str, serves: bool) -> None:
        self.serves[name] = serves
        if not serves:
            self.told_of_an_end.set()


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
        assert served.model.batcher.scheduler.max_rows == 5


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
        assert model.batcher.scheduler.max_rows == 7


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


async def test_loading_brings_up_the_new_version_and_drops_the_old(tmp_path: Path) -> None:
    put(tmp_path, "1", 1.0)
    async with Repository(tmp_path) as repository:
        put(tmp_path, "2", 2.0)
        assert await scale_of(repository) == 1
        await repository.load("linear")
        assert await scale_of(repository) == 2
        with pytest.raises(NotFoundError):
            repository.find("linear", "1")


async def test_loading_again_keeps_what_has_not_changed(tmp_path: Path) -> None:
    path = put(tmp_path, "1")
    async with Repository(tmp_path) as repository:
        before = repository.find("linear")
        await repository.load("linear")
        assert repository.find("linear") is before
        configure(tmp_path, "instances: 2")
        await repository.load("linear")
        after = repository.find("linear")
        assert after is not before
        write_linear(path, scale=5.0)
        await repository.load("linear")
        assert await scale_of(repository) == 5


async def test_a_model_that_comes_later_is_loaded_by_name(tmp_path: Path) -> None:
    observer = Observer()
    async with Repository(tmp_path, observer) as repository:
        with pytest.raises(NotFoundError, match="no model linear"):
            await repository.load("linear")
        put(tmp_path, "1")
        assert await index_of(repository) == {("linear", ""): ("UNAVAILABLE", "not loaded")}
        await repository.load("linear")
        assert await scale_of(repository) == 1
        assert observer.serves == {"": True, "linear": True}


@pytest.mark.parametrize("name", ["../linear", "linear/1", ".", "", "linear\0"])
async def test_a_name_is_never_a_path(tmp_path: Path, name: str) -> None:
    put(tmp_path, "1")
    async with Repository(tmp_path) as repository:
        for call in (repository.load, repository.unload):
            with pytest.raises(NotFoundError):
                await call(name)


async def test_a_failed_load_leaves_the_old_one_serving_and_says_why(tmp_path: Path) -> None:
    path = put(tmp_path, "1", 1.0)
    observer = Observer()
    async with Repository(tmp_path, observer) as repository:
        path.write_bytes(b"broken")
        with pytest.raises(ModelLoadError, match="model linear does not load: 1: "):
            await repository.load("linear")
        assert await scale_of(repository) == 1
        state, reason = (await index_of(repository))["linear", "1"]
        assert (state, bool(reason)) == ("READY", True)
        assert repository.is_ready()
        assert observer.serves == {"": True, "linear": True}
        put(tmp_path, "1", 7.0)
        await repository.load("linear")
        assert await scale_of(repository) == 7
        assert await index_of(repository) == {("linear", "1"): ("READY", "")}


async def test_a_new_version_that_fails_leaves_the_old_version_serving(tmp_path: Path) -> None:
    put(tmp_path, "1", 1.0)
    async with Repository(tmp_path) as repository:
        put(tmp_path, "2").write_bytes(b"broken")
        with pytest.raises(ModelLoadError):
            await repository.load("linear")
        assert await scale_of(repository) == 1
        index = await index_of(repository)
        assert index["linear", "1"][0] == "READY"
        assert index["linear", "2"][0] == "UNAVAILABLE"


async def test_a_broken_options_file_leaves_the_model_serving(tmp_path: Path) -> None:
    put(tmp_path, "1")
    async with Repository(tmp_path) as repository:
        configure(tmp_path, "instance: 2")
        with pytest.raises(ModelLoadError, match="unknown key instance"):
            await repository.load("linear")
        assert await scale_of(repository) == 1
        ((state, reason),) = (await index_of(repository)).values()
        assert state == "READY"
        assert "unknown key instance" in reason


async def test_unloading_ends_a_model_and_loading_brings_it_back(tmp_path: Path) -> None:
    put(tmp_path, "1")
    observer = Observer()
    async with Repository(tmp_path, observer) as repository:
        await repository.unload("linear")
        with pytest.raises(NotReadyError, match="not serving linear"):
            repository.find("linear")
        assert await index_of(repository) == {("linear", ""): ("UNAVAILABLE", "unloaded")}
        assert observer.serves == {"": True, "linear": False}
        await repository.unload("linear")
        await repository.load("linear")
        assert await scale_of(repository) == 1
        assert observer.serves["linear"]


async def test_unloading_waits_for_the_calls_that_were_accepted(tmp_path: Path) -> None:
    put(tmp_path, "1", 3.0)
    observer = Observer()
    async with Repository(tmp_path, observer) as repository:
        with repository.find("linear") as served:
            leaving = asyncio.create_task(repository.unload("linear"))
            await observer.told_of_an_end.wait()
            answer = await served.model.infer({"x": np.ones((1, 3), np.float32)})
            assert answer["y"][0, 0] == 4
            assert not leaving.done()
        await leaving


async def test_a_load_goes_on_when_its_caller_leaves(tmp_path: Path) -> None:
    put(tmp_path, "1", 1.0)
    async with Repository(tmp_path) as repository:
        put(tmp_path, "2", 2.0)
        caller = asyncio.create_task(repository.load("linear"))
        await asyncio.sleep(0)
        caller.cancel()
        await repository.load("linear")
        assert await scale_of(repository) == 2


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


async def test_no_call_fails_while_a_model_is_reloaded_again_and_again(tmp_path: Path) -> None:
    put(tmp_path, "1", 1.0)
    answered, stop = defaultdict[float, asyncio.Event](asyncio.Event), asyncio.Event()

    async def ask(repository: Repository) -> None:
        while not stop.is_set():
            answered[await scale_of(repository)].set()
            await asyncio.sleep(0)  # a short call runs where it stands, and gives no turn

    async with Repository(tmp_path) as repository, asyncio.TaskGroup() as group:
        for _ in range(8):
            group.create_task(ask(repository))
        for number in range(2, 22):
            await answered[number - 1].wait()
            put(tmp_path, str(number), float(number))
            await repository.load("linear")
            assert await scale_of(repository) == number
        stop.set()
    assert set(answered) <= {float(number) for number in range(1, 22)}


async def test_loads_and_unloads_at_once_end_in_the_last_ones_state(tmp_path: Path) -> None:
    put(tmp_path, "1", 1.0)
    async with Repository(tmp_path) as repository:
        for _ in range(10):
            await asyncio.gather(
                *(repository.load("linear") for _ in range(3)),
                *(repository.unload("linear") for _ in range(3)),
                repository.load("linear"),
            )
            assert await scale_of(repository) == 1


def told(metric: str, **labels: str) -> float | None:
    return REGISTRY.get_sample_value(metric, labels)


async def test_a_reload_starts_statistics_and_times_anew_and_tells_of_them(tmp_path: Path) -> None:
    put(tmp_path, "1", name="counted")
    ask = {"x": np.ones((1, 3), np.float32)}
    async with Repository(tmp_path) as repository:
        for _ in range(50):
            await repository.find("counted").model.infer(ask)
        old = repository.find("counted")
        put(tmp_path, "2", 5.0, name="counted")
        await repository.load("counted")
        fresh = repository.find("counted")
        assert old.model.statistics.call_count == 50
        assert fresh.model.statistics.call_count == 0
        assert fresh.statistics.success.count == 0
        times = fresh.model.batcher.scheduler.service_time
        assert times.line(((3,),)) is not old.model.batcher.scheduler.service_time.line(((3,),))
        shown = told("fomofeed_service_time_seconds", model="counted", bucket="3", parameter="a")
        assert shown == times.line(((3,),)).a
