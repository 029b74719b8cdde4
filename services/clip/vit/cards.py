"""The manifests of a checkpoint's towers: what they are, from what, and how exact."""

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from services.clip.vit.checkpoint import Checkpoint

TOLERANCE = 1e-4  # of an embedding's elements, to the reference and between batches
MAX_BATCH_ROWS = 4  # on a CPU a batch is no quicker per picture
SCALE = "logit_scale"  # a weight of neither tower; its exponential multiplies cosines
_METRIC = (
    "Largest difference of an embedding's elements to a float64 reference of the same weights, on "
    "{sample}: {off:.1e}. What the weights are worth was not measured here."
)


@dataclass(frozen=True, slots=True)
class Made:
    """A tower's file."""

    version: str
    file: str
    content: bytes
    off: float  # largest difference to the reference


def image_card(checkpoint: Checkpoint, made: Made) -> Mapping[str, Any]:
    """Returns the manifest of the image tower."""
    pictures, side_px = checkpoint.pictures, checkpoint.architecture.side_px
    preprocessing = {
        "colour": "RGB",
        "resize": f"bicubic with antialiasing, the shorter side to {pictures.shortest_px}",
        "crop": f"centre square of {side_px}",
        "normalisation": f"mean {pictures.mean}, deviation {pictures.deviation}, inside the model",
    }
    entry = {"name": "image", "dtype": "uint8", "shape": [-1, side_px, side_px, 3]}
    metric = _METRIC.format(sample="2 synthetic pictures", off=made.off)
    return {
        **_card(checkpoint, "image", made, entry),
        "preprocessing": preprocessing,
        "metric": metric,
    }


def text_card(checkpoint: Checkpoint, made: Made, scale: float) -> Mapping[str, Any]:
    """Returns the manifest of the text tower; `scale` is the weight of that name."""
    context = checkpoint.architecture.text.positions
    preprocessing = {"tokens": f"CLIP's byte pairs, at most {context} with both ends", SCALE: scale}
    entry = {"name": "ids", "dtype": "int64", "shape": [-1, -1]}
    metric = _METRIC.format(sample="5 texts", off=made.off)
    return {
        **_card(checkpoint, "text", made, entry),
        "preprocessing": preprocessing,
        "metric": metric,
    }


def _card(
    checkpoint: Checkpoint, part: str, made: Made, entry: Mapping[str, Any]
) -> Mapping[str, Any]:
    size = checkpoint.architecture.embedding
    sources = [
        {"kind": "given", "file": file, "sha256": digest}
        for file, digest in sorted(checkpoint.digests.items())
    ]
    return {
        "name": f"{checkpoint.architecture.name}-{part}",
        "version": made.version,
        "file": made.file,
        "sha256": hashlib.sha256(made.content).hexdigest(),
        "source": sources,
        "license": "that of the given weights",
        "trained_on": "as the given weights say",
        "inputs": [dict(entry)],
        "outputs": [{"name": "embedding", "dtype": "float32", "shape": [-1, size]}],
        "tolerance": TOLERANCE,
        "max_batch_rows": MAX_BATCH_ROWS,
    }
