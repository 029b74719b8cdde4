"""From encoded pictures to embeddings, step by step, as the server goes."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from services.clip.vit.checkpoint import Checkpoint
from serving.engines.engine import Engine
from serving.engines.onnx import OnnxEngine
from serving.media import ImageLimits, decode_image

LIMITS = ImageLimits(max_bytes=64 << 20)
THREADS = 2
_ROWS = 8  # in one engine call


def cuts(
    checkpoint: Checkpoint, contents: Sequence[bytes], enough_px: int | None = None
) -> NDArray[np.uint8]:
    """Returns (pictures, side, side, 3), of all pixels unless `enough_px` is given."""
    decoded = [decode_image(content, LIMITS, enough_px).pixels for content in contents]
    return np.stack([checkpoint.pictures.cut(pixels) for pixels in decoded])


def embed(model: Path | Engine, images: NDArray[np.uint8]) -> NDArray[np.float32]:
    """Runs an image tower over any number of pictures."""
    engine = OnnxEngine(model, threads=THREADS) if isinstance(model, Path) else model
    parts = [images[at : at + _ROWS] for at in range(0, len(images), _ROWS)]
    return np.concatenate([engine.infer({"image": part})["embedding"] for part in parts])


def smallest_distance(points: NDArray[np.float32]) -> float:
    """Returns by how much at least any two points differ in some element."""
    apart = np.abs(points[:, None] - points[None]).max(axis=2)
    return float(apart[~np.eye(len(points), dtype=bool)].min())


def centred_cosines(one: NDArray[Any], other: NDArray[Any]) -> NDArray[Any]:
    """Cosines around the mean of all: pictures have much in common, which would hide a change."""
    mean = other.mean(axis=0)
    one, other = one - mean, other - mean
    lengths = np.linalg.norm(one, axis=1) * np.linalg.norm(other, axis=1)
    return np.asarray((one * other).sum(axis=1) / lengths)
