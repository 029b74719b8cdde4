"""The folders of a model repository, and the proof that a file is the one that was promised.

    <repository>/<model>/model.yaml                     how it is served: `serving.models.options`
    <repository>/<model>/<version>/model.onnx           the model, or another of `formats`
    <repository>/<model>/<version>/manifest.yaml        what it is, with its SHA-256; or
    <repository>/<model>/<version>/model.onnx.sha256    its SHA-256 alone, as `sha256sum` writes it

Any other `<file>.sha256` in the folder is verified too: weights may lie beside the model. A Python
factory may read all of its folder: its digest is that of the output of `sha256sum` over the folder.
"""

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from fomofeed.type.v1 import type_pb2
from serving.models.artifacts import (
    MANIFEST_FILE,
    ArtifactError,
    check_digest,
    open_artifact,
    version_key,
)
from serving.models.formats import ONNX, Format, format_of, model_file
from serving.models.manifest import PLAIN_NAME, Manifest
from serving.models.model import model_ref

_DIGEST_SUFFIX = ".sha256"
_NOT_THE_MODEL = ("engine.json",)  # written here, by `serving.models.engines`


class NoEngineError(ArtifactError):
    """A file that is no model, or one that no engine of this server runs."""


@dataclass(frozen=True, slots=True)
class Verified:
    """A model's file whose content is what was promised, if anything was."""

    path: Path
    ref: type_pb2.ModelRef
    manifest: Manifest | None

    @property
    def format(self) -> Format:
        """The kind of the file, which is one that an engine here runs."""
        return format_of(self.path) or ONNX


def versions_on_disk(root: Path) -> Mapping[str, tuple[str, ...]]:
    """Returns the versions of each model of a repository, ascending; hidden folders are none."""
    found = {}
    for folder in sorted(root.iterdir()):
        if folder.is_dir() and PLAIN_NAME.fullmatch(folder.name):
            versions = [path.name for path in folder.iterdir() if _is_version(path)]
            found[folder.name] = tuple(sorted(versions, key=version_key))
    return found


def _is_version(path: Path) -> bool:
    is_named = bool(PLAIN_NAME.fullmatch(path.name))
    return is_named and bool(model_file(path) or (path / MANIFEST_FILE).is_file())


def verify(root: Path, name: str, version: str) -> Verified:
    """Hashes a version's files. Raises `ArtifactError` when one is not what was promised."""
    folder = root / name / version
    for promise in sorted(folder.glob(f"*{_DIGEST_SUFFIX}")):
        _verify_promise(promise)
    if (folder / MANIFEST_FILE).is_file():
        artifact = open_artifact(root, name, version)
        _check_engine(artifact.path)
        return Verified(artifact.path, model_ref(artifact), artifact.manifest)
    path = model_file(folder)
    if path is None:
        raise ArtifactError(f"{name}/{version} holds no model")
    digest = _folder_digest(folder) if path.suffix == ".py" else _digest(path)
    ref = type_pb2.ModelRef(model=name, version=version, artifact_sha256=digest)
    return Verified(path, ref, None)


def _verify_promise(promise: Path) -> None:
    words = promise.read_text(encoding="ascii", errors="replace").split()
    path = promise.with_suffix("")
    if not words or not path.is_file():
        raise ArtifactError(f"{promise} holds no digest of a file beside it")
    check_digest(str(path), _digest(path), words[0])


def _digest(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def _folder_digest(folder: Path) -> str:
    """Returns one digest over all files of a folder, by name: what `sha256sum * | sha256sum` is."""
    files = sorted(path for path in folder.iterdir() if path.is_file() and _is_content(path))
    lines = "".join(f"{_digest(path)}  {path.name}\n" for path in files)
    return hashlib.sha256(lines.encode()).hexdigest()


def _is_content(path: Path) -> bool:
    is_hidden = path.name.startswith(".")
    return not (is_hidden or path.name in _NOT_THE_MODEL or path.suffix == _DIGEST_SUFFIX)


def _check_engine(path: Path) -> None:
    if format_of(path) is None:
        raise NoEngineError(f"{path.name} is no model that an engine here runs")
