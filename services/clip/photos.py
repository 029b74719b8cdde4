"""Gets the photographs of `photos.yaml`: `python -m services.clip.photos --out DIR`.

For people and tests, never while serving.
"""

import argparse
import hashlib
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import yaml

from serving.models.artifacts import ArtifactError, Source
from serving.models.packages import DEFAULT_CACHE, fetch

LIST = Path(__file__).with_name("photos.yaml")


@dataclass(frozen=True, slots=True)
class Photo:
    """One photograph in a package."""

    name: str
    expect: str  # the first tag, empty when abstention is right
    source: Source

    def write(self, path: Path, cache: Path) -> None:
        """Puts the verified photograph at `path` unless it is there already."""
        if path.is_file():
            found = hashlib.sha256(path.read_bytes()).hexdigest()
            if found == self.source.sha256:
                return
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(fetch(self.source, cache))


def photos() -> tuple[Photo, ...]:
    """Returns all photographs in the list's order, the best for a demo first."""
    document = yaml.safe_load(LIST.read_text(encoding="utf-8"))
    packages = document["packages"]
    return tuple(
        Photo(
            entry["name"],
            entry["expect"],
            Source(
                kind="wheel",
                file=f"{packages[entry['package']]['folder']}/{entry['name']}",
                sha256=entry["sha256"],
                package=entry["package"],
                package_version=packages[entry["package"]]["version"],
            ),
        )
        for entry in document["photos"]
    )


def main(arguments: Sequence[str] | None = None) -> int:
    """Writes `01-coffee.png` and so on, so that sorted names keep the list's order."""
    parser = argparse.ArgumentParser(description="Gets photographs out of public packages.")
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--packages", type=Path, default=DEFAULT_CACHE, help="kept downloads")
    options = parser.parse_args(arguments)
    try:
        for number, photo in enumerate(photos(), start=1):
            photo.write(options.out / f"{number:02}-{photo.name}", options.packages)
    except ArtifactError as error:
        print(f"photos: {error}", file=sys.stderr)
        return 1
    print(f"{len(photos())} photographs in {options.out}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
