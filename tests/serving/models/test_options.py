from pathlib import Path

import pytest

from serving.models.manifest import ArtifactError
from serving.models.options import ModelOptions, VersionPolicy
from serving.scheduling.scheduler import BatchingConfig


def read(folder: Path, text: str) -> ModelOptions:
    path = folder / "model.yaml"
    path.write_text(text)
    return ModelOptions.read(path)


def test_without_a_file_everything_has_a_default(tmp_path: Path) -> None:
    assert ModelOptions.read(tmp_path / "model.yaml") == ModelOptions()
    assert read(tmp_path, "") == ModelOptions()


def test_every_key_is_read(tmp_path: Path) -> None:
    options = read(
        tmp_path,
        """
        batching: {max_batch_rows: 8, max_queue_rows: 64}
        instances: 2
        threads: 3
        device: cuda
        versions: [1, "3"]
        warm_up: [{ids: [-1, 16], mask: [-1, 16]}]
        """,
    )
    assert options.batching == BatchingConfig(max_batch_rows=8, max_queue_rows=64)
    assert (options.instances, options.threads, options.device) == (2, 3, "cuda")
    assert options.versions == VersionPolicy(named=("1", "3"))
    assert options.warm_up == ({"ids": (-1, 16), "mask": (-1, 16)},)


@pytest.mark.parametrize(
    ("text", "complaint"),
    [
        ("instance: 2", "unknown key instance; known: batching, instances, threads"),
        ("batching: {max_rows: 2}", "batching has unknown key max_rows; known: max_batch_rows"),
        ("batching: 8", "batching is 8, expected keys and values"),
        ("batching: {max_batch_rows: 0}", "batching.max_batch_rows is 0, expected a whole number"),
        ("instances: two", "instances is 'two', expected a whole number from 1"),
        ("threads: true", "threads is True, expected a whole number from 1"),
        ("device: tpu", "device is 'tpu', expected cpu or cuda"),
        ("versions: newest", "versions is 'newest', expected all, {latest: 2} or a list"),
        ("versions: {latest: 0}", "versions.latest is 0, expected a whole number from 1"),
        ("versions: []", "versions is [], expected all"),
        ("warm_up: {x: [1]}", "warm_up is {'x': [1]}, expected a list"),
        ("warm_up: [[1]]", "warm_up holds [1], expected a shape for each input"),
        ("warm_up: [{x: [1, -1]}]", "warm_up.x is [1, -1], expected sizes; -1 only first"),
        ("- 1", "the file is [1], expected keys and values"),
        ("{", "cannot be read"),
    ],
)
def test_a_mistake_is_refused_by_its_name(tmp_path: Path, text: str, complaint: str) -> None:
    with pytest.raises(ArtifactError) as caught:
        read(tmp_path, text)
    assert complaint in str(caught.value)
    assert str(caught.value).startswith(f"{tmp_path.name}/model.yaml")


def test_versions_are_chosen_by_policy() -> None:
    there = ("1", "2", "10")
    assert VersionPolicy().choose(there) == ("10",)
    assert VersionPolicy(latest=2).choose(there) == ("2", "10")
    assert VersionPolicy(latest=None).choose(there) == there
    assert VersionPolicy(named=("10", "1")).choose(there) == ("1", "10")
    with pytest.raises(ArtifactError, match=r"version 3 of model.yaml is not there, only 1, 2, 10"):
        VersionPolicy(named=("3",)).choose(there)
