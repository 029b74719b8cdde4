"""A repository of model artifacts, in which each file is verified before anything reads it.

    <repository>/<name>/<version>/model.onnx      the file that `Manifest.file` names
    <repository>/<name>/<version>/manifest.yaml   a copy of the manifest it was built from

What is opened here was hashed first, so an altered or half-written file never reaches an engine.
"""

import hashlib
import re
import shutil
import tempfile
from dataclasses import dataclass
from pathlib import Path

from serving.models.manifest import ArtifactError, Manifest, Source, Tensor, UnavailableError

__all__ = [
    "DEFAULT_REPOSITORY",
    "MANIFEST_FILE",
    "Artifact",
    "ArtifactError",
    "Manifest",
    "Source",
    "Tensor",
    "UnavailableError",
    "check_digest",
    "manifests_in",
    "open_artifact",
    "publish",
]

MANIFEST_FILE = "manifest.yaml"
DEFAULT_REPOSITORY = Path(".fomofeed/models")


@dataclass(frozen=True, slots=True)
class Artifact:
    """A verified file and what its manifest says about it."""

    manifest: Manifest
    path: Path


def open_artifact(repository: Path, name: str, version: str | None = None) -> Artifact:
    """Finds an artifact, the highest version unless one is named, and verifies its SHA-256.

    Reads the whole file once: about 15 ms for 20 MB. Raises `ArtifactError`.
    """
    folder = _folder(repository, name, version)
    manifest = Manifest.read(folder / MANIFEST_FILE)
    if (manifest.name, manifest.version) != (name, folder.name):
        raise ArtifactError(
            f"{folder / MANIFEST_FILE} describes {manifest.name} {manifest.version}, "
            f"expected {name} {folder.name}"
        )
    path = folder / manifest.file
    if not path.is_file():
        raise ArtifactError(f"{path} is missing")
    with path.open("rb") as file:
        found = hashlib.file_digest(file, "sha256").hexdigest()
    check_digest(str(path), found, manifest.sha256)
    return Artifact(manifest, path)


def manifests_in(repository: Path) -> tuple[Manifest, ...]:
    """Reads the manifests of a repository, sorted by path. Verifies no artifact."""
    paths = sorted(repository.glob(f"*/*/{MANIFEST_FILE}"))
    return tuple(Manifest.read(path) for path in paths)


def publish(repository: Path, manifest_path: Path, content: bytes) -> Artifact:
    """Puts an artifact into a repository, whole or not at all, with a copy of its manifest.

    Raises `ArtifactError` when `content` is not what the manifest promises.
    """
    manifest = Manifest.read(manifest_path)
    label = f"{manifest.name} {manifest.version} as built"
    check_digest(label, hashlib.sha256(content).hexdigest(), manifest.sha256)
    parent = repository / manifest.name
    parent.mkdir(parents=True, exist_ok=True)
    fresh = Path(tempfile.mkdtemp(prefix=".new-", dir=parent))
    try:
        (fresh / manifest.file).write_bytes(content)
        shutil.copyfile(manifest_path, fresh / MANIFEST_FILE)
        fresh.chmod(0o755)  # mkdtemp's 0700 would hide it from a server of another user
        shutil.rmtree(parent / manifest.version, ignore_errors=True)
        fresh.replace(parent / manifest.version)
    finally:
        shutil.rmtree(fresh, ignore_errors=True)
    return Artifact(manifest, parent / manifest.version / manifest.file)


def check_digest(label: str, found: str, expected: str) -> None:
    """Raises `ArtifactError` saying what was hashed, what was found and what was expected."""
    if found != expected:
        raise ArtifactError(f"{label} has SHA-256 digest {found}, expected {expected}")


def _folder(repository: Path, name: str, version: str | None) -> Path:
    if version is not None:
        return repository / name / version
    versions = [path.parent for path in (repository / name).glob(f"[!.]*/{MANIFEST_FILE}")]
    if not versions:
        raise ArtifactError(
            f"no artifact {name} in {repository}; `fomofeed models pull` fills the repository"
        )
    return max(versions, key=lambda path: version_key(path.name))


def version_key(version: str) -> tuple[tuple[int, str], ...]:
    """Orders "2" < "10" and "1.9" < "1.10"; a part that is no number sorts before all numbers."""
    parts = re.split(r"[._-]", version)
    return tuple((int(part), "") if part.isdecimal() else (-1, part) for part in parts)
