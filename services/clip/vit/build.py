"""Makes the artifacts of an operator's checkpoint: `fomofeed models build clip --weights DIR`.

    <repository>/clip-vit-b-32-image/<version>/model.onnx, manifest.yaml
    <repository>/clip-vit-b-32-text/<version>/model.onnx, manifest.yaml

The version comes from the digests of the checkpoint's files, so other weights never pass for these.
How far the model is from a float64 reference of the same weights is measured each time and stands
in the manifest; a model that is too far off is not published.
"""

import argparse
import hashlib
import logging
import math
import sys
import tempfile
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import onnxruntime
import yaml
from numpy.typing import NDArray
from PIL import Image

from services.clip.vit import reference
from services.clip.vit.architecture import Weights
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

log = logging.getLogger(__name__)

REVISION = 1  # of the graphs: raised when the same weights give another file
TOLERANCE = 1e-4  # of an embedding's elements, to the reference and between batches
MAX_BATCH_ROWS = 4  # on a CPU a batch is no quicker per picture
VOCABULARY = "clip-vocabulary"  # artifact of the vocabulary that most weights share
SAMPLE_TEXTS = ("a photo of a cat.", "Ein Hund läuft 3 km 🐕", "猫", "", "word " * 100)
_FILE = "model.onnx"
_METRIC = (
    "Largest difference of an embedding's elements to a float64 reference of the same weights, on "
    "synthetic pictures and texts of five kinds: {off:.1e}. What the weights are worth was not "
    "measured here."
)
_SCALE = "logit_scale"  # a weight of neither tower; its exponential multiplies cosines


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


def built(checkpoint: Checkpoint, repository: Path) -> Towers | None:
    """Returns the verified towers if the repository has them."""
    version, name = _version(checkpoint), checkpoint.architecture.name
    folders = [repository / f"{name}-{part}" / version for part in ("image", "text")]
    if not all((folder / MANIFEST_FILE).is_file() for folder in folders):
        return None
    image, text = (open_artifact(repository, folder.parent.name, version) for folder in folders)
    return Towers(image, text)


def scale_of(towers: Towers) -> float:
    """Returns what cosines are multiplied by before a softmax. Raises `CheckpointError`."""
    found = (towers.text.manifest.preprocessing or {}).get(_SCALE)
    if not isinstance(found, int | float):
        raise CheckpointError(f"{towers.text.manifest.name}'s manifest has no {_SCALE}")
    return math.exp(found)


def build(checkpoint: Checkpoint, repository: Path) -> Towers:
    """Makes and publishes both towers: seconds to minutes, and three times the weights in memory.

    Raises `CheckpointError` for unusable weights, or when the package `onnx` is not installed.
    """
    try:
        from services.clip.vit import graph  # noqa: PLC0415  # its package is an extra
    except ImportError as error:
        raise CheckpointError(
            "converting weights needs the extra `build`; `fomofeed models build clip` on a machine "
            "that has it fills the repository"
        ) from error
    weights, tokenizer = checkpoint.weights(), tokenizer_of(checkpoint, repository)
    architecture = checkpoint.architecture
    image = graph.image_model(architecture, weights, checkpoint.pictures)
    image_card = _image_card(checkpoint, image, _image_off(checkpoint, weights, image))
    text = graph.text_model(architecture, weights)
    off = _text_off(checkpoint, weights, tokenizer, text)
    text_card = _text_card(checkpoint, text, off, float(weights["logit_scale"]))
    return Towers(_publish(repository, image_card, image), _publish(repository, text_card, text))


def _version(checkpoint: Checkpoint) -> str:
    return f"{REVISION}-{checkpoint.version}"


def _image_off(checkpoint: Checkpoint, weights: Weights, model: bytes) -> float:
    images = sample_pictures(checkpoint.architecture.side_px)
    expected = reference.embed_images(checkpoint.architecture, weights, checkpoint.pictures, images)
    return _off(model, {"image": images}, expected)


def _text_off(
    checkpoint: Checkpoint, weights: Weights, tokenizer: Tokenizer, model: bytes
) -> float:
    ids = tokenizer.batch(SAMPLE_TEXTS)
    return _off(model, {"ids": ids}, reference.embed_texts(checkpoint.architecture, weights, ids))


def _off(model: bytes, inputs: dict[str, NDArray[Any]], expected: NDArray[np.float64]) -> float:
    """Returns the largest difference of the model's embeddings; NaN counts as infinite."""
    session = onnxruntime.InferenceSession(model, providers=["CPUExecutionProvider"])
    (found,) = session.run(None, inputs)
    off = float(np.abs(found - expected).max())
    return off if np.isfinite(off) else float("inf")


def sample_pictures(side_px: int) -> NDArray[np.uint8]:
    """Returns (2, side, side, 3): noise, and the same noise with everything fine taken out."""
    noise = np.random.default_rng(0).integers(0, 256, (side_px, side_px, 3), np.uint8)
    small = Image.fromarray(noise).resize((5, 5), Image.Resampling.BOX)
    smooth = small.resize((side_px, side_px), Image.Resampling.BICUBIC)
    return np.stack([noise, np.asarray(smooth)])


def _publish(repository: Path, card: Mapping[str, Any], model: bytes) -> Artifact:
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / MANIFEST_FILE
        path.write_text(yaml.safe_dump(dict(card), sort_keys=False), encoding="utf-8")
        return publish(repository, path, model)


def _image_card(checkpoint: Checkpoint, model: bytes, off: float) -> Mapping[str, Any]:
    pictures, side_px = checkpoint.pictures, checkpoint.architecture.side_px
    preprocessing = {
        "colour": "RGB",
        "resize": f"bicubic with antialiasing, the shorter side to {pictures.shortest_px}",
        "crop": f"centre square of {side_px}",
        "normalisation": f"mean {pictures.mean}, deviation {pictures.deviation}, inside the model",
    }
    entry = {"name": "image", "dtype": "uint8", "shape": [-1, side_px, side_px, 3]}
    return _card(checkpoint, "image", model, off, entry, preprocessing)


def _text_card(checkpoint: Checkpoint, model: bytes, off: float, scale: float) -> Mapping[str, Any]:
    context = checkpoint.architecture.text.positions
    preprocessing = {
        "tokens": f"CLIP's byte pairs, at most {context} with both ends",
        _SCALE: scale,
    }
    entry = {"name": "ids", "dtype": "int64", "shape": [-1, -1]}
    return _card(checkpoint, "text", model, off, entry, preprocessing)


def _card(
    checkpoint: Checkpoint,
    part: str,
    model: bytes,
    off: float,
    entry: Mapping[str, Any],
    preprocessing: Mapping[str, Any],
) -> Mapping[str, Any]:
    name = f"{checkpoint.architecture.name}-{part}"
    if off > TOLERANCE:
        raise CheckpointError(f"{name} is {off:.2g} from its reference, at most {TOLERANCE:g}")
    size = checkpoint.architecture.embedding
    sources = [
        {"kind": "given", "file": file, "sha256": digest}
        for file, digest in sorted(checkpoint.digests.items())
    ]
    return {
        "name": name,
        "version": _version(checkpoint),
        "file": _FILE,
        "sha256": hashlib.sha256(model).hexdigest(),
        "source": sources,
        "license": "that of the given weights",
        "trained_on": "as the given weights say",
        "inputs": [dict(entry)],
        "outputs": [{"name": "embedding", "dtype": "float32", "shape": [-1, size]}],
        "preprocessing": dict(preprocessing),
        "metric": _METRIC.format(off=off),
        "tolerance": TOLERANCE,
        "max_batch_rows": MAX_BATCH_ROWS,
    }


def main(arguments: Sequence[str] | None = None, say: Callable[[str], None] = print) -> int:
    """Runs the command. Returns the process's exit code."""
    parser = argparse.ArgumentParser(
        prog="fomofeed models build clip", description="Exports CLIP weights to ONNX."
    )
    parser.add_argument("--weights", type=Path, required=True, metavar="DIR", help="as given")
    parser.add_argument("--repository", type=Path, default=DEFAULT_REPOSITORY, metavar="DIR")
    options = parser.parse_args(arguments)
    started = time.monotonic()
    try:
        checkpoint = open_checkpoint(options.weights)
        towers = built(checkpoint, options.repository)
        state = "ready" if towers else "built"
        towers = towers or build(checkpoint, options.repository)
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
