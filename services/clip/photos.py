"""Gets the photographs of `photos.yaml`: `python -m services.clip.photos --out DIR`.

For people and tests, never while serving.
"""

import argparse
import hashlib
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml

from serving.models.artifacts import ArtifactError, Source
from serving.models.packages import DEFAULT_CACHE, fetch

LIST = Path(__file__).with_name("photos.yaml")


@dataclass(frozen=True, slots=True)
class Photo:
    """One photograph in a package."""

    name: str
    expect: tuple[str, ...]  # first tags that are right, empty when abstention is
    kind: str  # "people", "art", "document", "map", "science": no animal and no food; else ""
    source: Source

    def write(self, path: Path, cache: Path) -> None:
        """Puts the verified photograph at `path` unless it is there already."""
        if path.is_file():
            found = hashlib.sha256(path.read_bytes()).hexdigest()
            if found == self.source.sha256:
                return
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(fetch(self.source, cache))


def photos(part: str = "photos") -> tuple[Photo, ...]:
    """Returns one of the file's lists in its order: photos (for the demo), labelled, held_out."""
    document = yaml.safe_load(LIST.read_text(encoding="utf-8"))
    return tuple(_photo(entry, document["packages"]) for entry in document[part])


def _photo(entry: Mapping[str, Any], packages: Mapping[str, Any]) -> Photo:
    package = packages[entry["package"]]
    source = Source(
        kind=package.get("kind", "wheel"),
        file=f"{package['folder']}/{entry['name']}",
        sha256=entry["sha256"],
        package=entry["package"],
        package_version=package["version"],
    )
    return Photo(entry["name"], tuple(entry["expect"]), entry.get("kind", ""), source)


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
