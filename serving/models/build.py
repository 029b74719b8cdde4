"""Builds the artifacts of one service: fetches their sources, converts, verifies, publishes.

`python -m services.<service>.build --repository DIR` calls `main` with the service's folder and a
converter per artifact. An artifact without a converter is its one source, unchanged.
"""

import argparse
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

from serving.models.artifacts import (
    DEFAULT_REPOSITORY,
    MANIFEST_FILE,
    ArtifactError,
    Manifest,
    UnavailableError,
    open_artifact,
    publish,
)
from serving.models.packages import DEFAULT_CACHE, fetch

# From the contents of the manifest's sources, in their order, to the content of the artifact.
# The same bytes each time, or the manifest's digest could not be checked.
Converter = Callable[[Sequence[bytes]], bytes]


def main(
    service_folder: Path,
    converters: Mapping[str, Converter] | None = None,
    arguments: Sequence[str] | None = None,
) -> int:
    """Builds all artifacts of a service, a progress line each. Returns the process's exit code.

    An optional artifact whose package cannot be had is left out, with a line that says so.
    """
    parser = argparse.ArgumentParser(description=f"Builds the artifacts of {service_folder.name}.")
    parser.add_argument("--repository", type=Path, default=DEFAULT_REPOSITORY)
    parser.add_argument("--packages", type=Path, default=DEFAULT_CACHE, help="kept downloads")
    options = parser.parse_args(arguments)
    try:
        for path in sorted((service_folder / "manifests").glob("*.yaml")):
            build(path, options.repository, options.packages, converters or {})
    except ArtifactError as error:
        print(f"{service_folder.name}: {error}", file=sys.stderr)
        return 1
    return 0


def build(
    manifest_path: Path, repository: Path, cache: Path, converters: Mapping[str, Converter]
) -> None:
    """Makes one artifact unless the repository has it, verified, from this very manifest."""
    manifest = Manifest.read(manifest_path)
    label = f"{manifest.name} {manifest.version}"
    if _is_built(manifest, manifest_path, repository):
        print(f"{label}: ready", flush=True)
        return
    started = time.monotonic()
    origins = ", ".join(dict.fromkeys(source.origin for source in manifest.sources))
    print(f"{label}: from {origins} …", flush=True)
    try:
        contents = [fetch(source, cache) for source in manifest.sources]
    except UnavailableError as error:
        if not manifest.optional:
            raise
        print(f"{label}: left out, it is optional: {error}", flush=True)
        return
    convert = converters.get(manifest.name, _unchanged)
    publish(repository, manifest_path, convert(contents))
    print(f"{label}: built in {time.monotonic() - started:.1f} s", flush=True)


def _is_built(manifest: Manifest, manifest_path: Path, repository: Path) -> bool:
    try:
        artifact = open_artifact(repository, manifest.name, manifest.version)
    except ArtifactError:
        return False
    return (artifact.path.parent / MANIFEST_FILE).read_bytes() == manifest_path.read_bytes()


def _unchanged(contents: Sequence[bytes]) -> bytes:
    if len(contents) != 1:
        raise ArtifactError(f"{len(contents)} sources and no converter, expected 1 source")
    return contents[0]
