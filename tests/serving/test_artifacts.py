import hashlib
from pathlib import Path

import pytest
import yaml

from serving.models.artifacts import (
    ArtifactError,
    Manifest,
    manifests_in,
    open_artifact,
    publish,
)

CONTENT = b"weights of a small model"


def manifest_document(**changes: object) -> dict[str, object]:
    digest = hashlib.sha256(CONTENT).hexdigest()
    source = {
        "kind": "wheel",
        "package": "somewhere",
        "package_version": "1.0",
        "file": "somewhere/model.onnx",
        "sha256": digest,
    }
    return {
        "name": "small",
        "version": "1",
        "file": "model.onnx",
        "sha256": digest,
        "source": source,
        "license": "Apache-2.0",
        "trained_on": "ImageNet-1k",
        "metric": "none measured",
        "inputs": [{"name": "image", "dtype": "uint8", "shape": [-1, 224, 224, 3]}],
        **changes,
    }


def write_manifest(folder: Path, **changes: object) -> Path:
    path = folder / "small.yaml"
    path.write_text(yaml.safe_dump(manifest_document(**changes)))
    return path


def test_published_artifact_opens_with_its_manifest(tmp_path: Path) -> None:
    publish(tmp_path / "models", write_manifest(tmp_path), CONTENT)

    artifact = open_artifact(tmp_path / "models", "small")

    assert artifact.path.read_bytes() == CONTENT
    assert artifact.manifest.inputs[0].shape == (-1, 224, 224, 3)
    assert artifact.manifest.source.origin == "somewhere 1.0"
    assert manifests_in(tmp_path / "models") == (artifact.manifest,)


def test_altered_file_is_refused_with_both_digests(tmp_path: Path) -> None:
    artifact = publish(tmp_path / "models", write_manifest(tmp_path), CONTENT)
    artifact.path.write_bytes(CONTENT + b"!")
    found = hashlib.sha256(CONTENT + b"!").hexdigest()

    with pytest.raises(ArtifactError, match=f"digest {found}, expected {artifact.manifest.sha256}"):
        open_artifact(tmp_path / "models", "small")


def test_result_with_another_digest_is_not_published(tmp_path: Path) -> None:
    with pytest.raises(ArtifactError, match="small 1 as built has SHA-256 digest"):
        publish(tmp_path / "models", write_manifest(tmp_path), b"other weights")

    with pytest.raises(ArtifactError, match="no artifact small"):
        open_artifact(tmp_path / "models", "small")


def test_highest_version_opens_unless_one_is_named(tmp_path: Path) -> None:
    for version in ("2", "10", "9"):
        publish(tmp_path, write_manifest(tmp_path, version=version), CONTENT)

    assert open_artifact(tmp_path, "small").manifest.version == "10"
    assert open_artifact(tmp_path, "small", "2").manifest.version == "2"


def test_publishing_again_replaces_the_artifact_and_leaves_nothing_behind(tmp_path: Path) -> None:
    publish(tmp_path / "models", write_manifest(tmp_path), CONTENT)
    publish(tmp_path / "models", write_manifest(tmp_path, metric="measured"), CONTENT)

    assert open_artifact(tmp_path / "models", "small").manifest.metric == "measured"
    assert [path.name for path in (tmp_path / "models" / "small").iterdir()] == ["1"]


def test_manifest_in_the_wrong_folder_is_refused(tmp_path: Path) -> None:
    publish(tmp_path, write_manifest(tmp_path), CONTENT)
    (tmp_path / "small" / "1").rename(tmp_path / "small" / "2")

    with pytest.raises(ArtifactError, match="describes small 1, expected small 2"):
        open_artifact(tmp_path, "small")


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"name": "../../etc"}, "name is '../../etc'"),
        ({"file": ".hidden"}, "file is '.hidden'"),
        ({"version": 1}, "version is 1"),
        ({"sha256": "579344248a93e230"}, "expected 64 lower-case hex digits"),
        ({"licence": "MIT"}, "unknown fields"),
        ({"source": []}, "names no source"),
        ({"source": {"kind": "url", "file": "a", "sha256": "0" * 64}}, "source kind is 'url'"),
        ({"source": {"kind": "wheel", "file": "a", "sha256": "0" * 64}}, "needs package"),
        ({"source": {"kind": "trained-here", "file": "a", "sha256": "0" * 64}}, "command"),
    ],
)
def test_malformed_manifest_is_refused(
    tmp_path: Path, change: dict[str, object], message: str
) -> None:
    path = write_manifest(tmp_path, **change)

    with pytest.raises(ArtifactError, match=message) as refusal:
        Manifest.read(path)
    assert str(path) in str(refusal.value)


@pytest.mark.parametrize("text", ["", "[1, 2]", "a: b: c", "\x00"])
def test_file_that_is_no_manifest_is_refused(tmp_path: Path, text: str) -> None:
    path = tmp_path / "odd.yaml"
    path.write_text(text)

    with pytest.raises(ArtifactError, match=r"odd\.yaml"):
        Manifest.read(path)
