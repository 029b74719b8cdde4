"""Makes the artifacts of an operator's checkpoint: `fomofeed models build clip --weights DIR`.

    <repository>/clip-vit-b-32-image/<version>/model.onnx, manifest.yaml
    <repository>/clip-vit-b-32-text/<version>/model.onnx, manifest.yaml

The version comes from the digests of the checkpoint's files, so other weights never pass for these.
How far the model is from a float64 reference of the same weights is measured each time and stands
in the manifest; a model that is too far off is not published. With `--engine torch` it is a Torch
export (`model.pt2`) under a version of its own.
"""

import argparse
import importlib
import math
import sys
import tempfile
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import yaml
from numpy.typing import NDArray
from PIL import Image

from fomofeed.type.v1 import type_pb2
from services.clip.vit import reference
from services.clip.vit.cards import SCALE, TOLERANCE, Made, image_card, text_card
from services.clip.vit.checkpoint import Checkpoint, open_checkpoint
from services.clip.vit.errors import CheckpointError
from services.clip.vit.tokenizer import Tokenizer
from services.clip.vit.vocabulary import from_merges
from serving.models.artifacts import (
    DEFAULT_REPOSITORY,
    MANIFEST_FILE,
    Artifact,
    ArtifactError,
    open_artifact,
    publish,
)
from serving.models.engines import open_engine
from serving.models.folders import Verified
from serving.models.options import ModelOptions

REVISION = 1  # of the exports: raised when the same weights give another file
VOCABULARY = "clip-vocabulary"  # artifact of the vocabulary that most weights share
SAMPLE_TEXTS = ("a photo of a cat.", "Ein Hund läuft 3 km 🐕", "猫", "", "word " * 100)
_TORCH = "torch"


@dataclass(frozen=True, slots=True)
class Towers:
    """Both towers of a checkpoint, verified."""

    image: Artifact
    text: Artifact


def tokenizer_of(checkpoint: Checkpoint, repository: Path) -> Tokenizer:
    """Returns the tokenizer of the checkpoint, else of the shared vocabulary."""
    return checkpoint.tokenizer(
        lambda: from_merges(open_artifact(repository, VOCABULARY).path.read_bytes())
    )


def built(checkpoint: Checkpoint, repository: Path, engine: str = "") -> Towers | None:
    """Returns the verified towers for an engine if the repository has them."""
    version, name = _version(checkpoint, engine), checkpoint.architecture.name
    folders = [repository / f"{name}-{part}" / version for part in ("image", "text")]
    if not all((folder / MANIFEST_FILE).is_file() for folder in folders):
        return None
    image, text = (open_artifact(repository, folder.parent.name, version) for folder in folders)
    return Towers(image, text)


def scale_of(towers: Towers) -> float:
    """Returns what cosines are multiplied by before a softmax. Raises `CheckpointError`."""
    found = (towers.text.manifest.preprocessing or {}).get(SCALE)
    if not isinstance(found, int | float):
        raise CheckpointError(f"{towers.text.manifest.name}'s manifest has no {SCALE}")
    return math.exp(found)


def build(checkpoint: Checkpoint, repository: Path, engine: str = "") -> Towers:
    """Makes and publishes both towers: seconds to minutes, and three times the weights in memory.

    Raises `CheckpointError` for unusable weights, or when the exporter's package is not installed.
    """
    exporter, file = _exporter(engine)
    architecture, pictures = checkpoint.architecture, checkpoint.pictures
    weights, tokenizer = checkpoint.weights(), tokenizer_of(checkpoint, repository)
    version = _version(checkpoint, engine)

    def made(content: bytes, entry: Mapping[str, NDArray[Any]], expected: NDArray[Any]) -> Made:
        return Made(version, file, content, _off(file, content, entry, expected))

    images, ids = sample_pictures(architecture.side_px), tokenizer.batch(SAMPLE_TEXTS)
    content = exporter.image_model(architecture, weights, pictures)
    expected = reference.embed_images(architecture, weights, pictures, images)
    image = made(content, {"image": images}, expected)
    content = exporter.text_model(architecture, weights)
    text = made(content, {"ids": ids}, reference.embed_texts(architecture, weights, ids))
    scale = float(weights["logit_scale"])
    return Towers(
        _publish(repository, image_card(checkpoint, image), image),
        _publish(repository, text_card(checkpoint, text, scale), text),
    )


def _version(checkpoint: Checkpoint, engine: str) -> str:
    suffix = f"-{_TORCH}" if engine == _TORCH else ""
    return f"{REVISION}-{checkpoint.version}{suffix}"


def _exporter(engine: str) -> tuple[Any, str]:
    """Returns the module that exports for an engine, and the name of the files that it makes."""
    module, file, extra = ("graph", "model.onnx", "build")
    if engine == _TORCH:
        module, file, extra = ("torch_towers", "model.pt2", "torch")
    try:
        return importlib.import_module(f"services.clip.vit.{module}"), file
    except ImportError as error:
        raise CheckpointError(
            f"exporting weights needs the extra `{extra}`; `fomofeed models build clip` on a "
            "machine that has it fills the repository"
        ) from error


def _off(
    file: str, content: bytes, inputs: Mapping[str, NDArray[Any]], expected: NDArray[np.float64]
) -> float:
    """Returns the largest difference of the model's embeddings; NaN counts as infinite."""
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / file
        path.write_bytes(content)
        engine = open_engine(Verified(path, type_pb2.ModelRef(), None), ModelOptions())
        found = engine.infer(inputs)["embedding"]
    off = float(np.abs(found - expected).max())
    return off if np.isfinite(off) else float("inf")


def sample_pictures(side_px: int) -> NDArray[np.uint8]:
    """Returns (2, side, side, 3): noise, and the same noise with everything fine taken out."""
    noise = np.random.default_rng(0).integers(0, 256, (side_px, side_px, 3), np.uint8)
    small = Image.fromarray(noise).resize((5, 5), Image.Resampling.BOX)
    smooth = small.resize((side_px, side_px), Image.Resampling.BICUBIC)
    return np.stack([noise, np.asarray(smooth)])


def _publish(repository: Path, card: Mapping[str, Any], made: Made) -> Artifact:
    if made.off > TOLERANCE:
        raise CheckpointError(
            f"{card['name']} is {made.off:.2g} from its reference, at most {TOLERANCE:g}"
        )
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / MANIFEST_FILE
        path.write_text(yaml.safe_dump(dict(card), sort_keys=False), encoding="utf-8")
        return publish(repository, path, made.content)


def main(arguments: Sequence[str] | None = None, say: Callable[[str], None] = print) -> int:
    """Runs the command. Returns the process's exit code."""
    parser = argparse.ArgumentParser(
        prog="fomofeed models build clip", description="Exports CLIP weights to ONNX or Torch."
    )
    parser.add_argument("--weights", type=Path, required=True, metavar="DIR", help="as given")
    parser.add_argument("--repository", type=Path, default=DEFAULT_REPOSITORY, metavar="DIR")
    parser.add_argument("--engine", choices=("onnx", _TORCH), default="onnx")
    options = parser.parse_args(arguments)
    started = time.monotonic()
    try:
        checkpoint = open_checkpoint(options.weights)
        towers = built(checkpoint, options.repository, options.engine)
        state = "ready" if towers else "built"
        towers = towers or build(checkpoint, options.repository, options.engine)
    except ArtifactError as error:
        print(f"clip: {error}", file=sys.stderr)
        return 1
    for tower in (towers.image, towers.text):
        manifest = tower.manifest
        say(f"{manifest.name} {manifest.version}: {state}\n  {manifest.metric}")
    say(f"  {time.monotonic() - started:.1f} s, {options.repository}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
