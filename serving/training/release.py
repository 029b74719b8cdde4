"""A model trained on own events becomes a version of the repository, with its card and its plot.

    <repository>/<name>/<next version>/    the model, manifest.yaml, card.md, calibration.svg

The manifest carries the digest and says on what it was trained; servers load the highest version
when they start. Removing the folder goes back to the version before.
"""

import hashlib
import tempfile
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml

from serving.models.artifacts import (
    Artifact,
    ArtifactError,
    Manifest,
    manifests_in,
    publish,
    version_key,
)
from serving.models.manifest import Scalar
from serving.training.posts import EventsFile, trained_on

CARD_FILE, PLOT_FILE = "card.md", "calibration.svg"


@dataclass(frozen=True, slots=True)
class Release:
    """What is published. `metric` is one paragraph, `card` the lines under the card's title."""

    content: bytes
    metric: str
    card: Sequence[str]
    plot: str  # SVG
    command: str  # that made it
    is_proven: bool  # better than what it follows on later posts, beyond chance
    preprocessing: Mapping[str, Scalar] | None = None  # what must be as it was, to serve it


def release(repository: Path, before: Manifest, events: EventsFile, made: Release) -> Artifact:
    """Publishes the version after the highest of `before.name`; raises `ArtifactError`."""
    version = next_version(repository, before.name)
    document = _document(before, version, events, made)
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "manifest.yaml"
        path.write_text(yaml.safe_dump(document, sort_keys=False, width=100), encoding="utf-8")
        artifact = publish(repository, path, made.content)
    title = f"# {before.name} {version}"
    lines = [title, "", *made.card, "", f"![told and seen]({PLOT_FILE})", ""]
    (artifact.path.parent / CARD_FILE).write_text("\n".join(lines), encoding="utf-8")
    (artifact.path.parent / PLOT_FILE).write_text(made.plot, encoding="utf-8")
    return artifact


def next_version(repository: Path, name: str) -> str:
    """Returns the whole number after the highest version; raises `ArtifactError` without any."""
    versions = [m.version for m in manifests_in(repository) if m.name == name]
    if not versions:
        raise ArtifactError(f"no {name} in {repository}; `fomofeed models pull` fills it")
    highest = max(versions, key=version_key).split(".")[0]
    return str(int(highest) + 1) if highest.isdecimal() else "2"


def _document(before: Manifest, version: str, events: EventsFile, made: Release) -> dict[str, Any]:
    digest = hashlib.sha256(made.content).hexdigest()
    tensors = {
        kind: [{"name": t.name, "dtype": t.dtype, "shape": list(t.shape)} for t in listed]
        for kind, listed in (("inputs", before.inputs), ("outputs", before.outputs))
    }
    name = before.name
    return {
        "name": name,
        "version": version,
        "file": before.file,
        "sha256": digest,
        "source": {
            "kind": "trained-here",
            "file": before.file,
            "sha256": digest,
            "command": made.command,
        },
        "license": "as the events",
        "trained_on": trained_on(events),
        "experimental": not made.is_proven,
        "metric": made.metric,
        **({"preprocessing": dict(made.preprocessing)} if made.preprocessing else {}),
        **{kind: listed for kind, listed in tensors.items() if listed},
        "tolerance": before.tolerance,
        "max_batch_rows": before.max_batch_rows,
    }
