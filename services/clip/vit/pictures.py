"""What CLIP is shown of a picture, equal to transformers' CLIP processor on Pillow.

The shorter side is resized to `shortest_px` with Pillow's antialiased bicubic filter and the
centre square of `side_px` is cut out. (To compute the square alone would save a fifth of the time
and not give the same: Pillow then takes rows and columns in another order, off by up to 15.) It
stays uint8: scaling and normalisation are part of the model.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from services.clip.vit.errors import CheckpointError
from services.clip.vit.hugging_face import read_json

FILES = ("preprocessor_config.json", "processor_config.json")
OPENAI_MEAN = (0.48145466, 0.4578275, 0.40821073)
OPENAI_DEVIATION = (0.26862954, 0.26130258, 0.27577711)
_STEPS = ("do_resize", "do_center_crop", "do_rescale", "do_normalize")

Pixels = NDArray[np.uint8]


@dataclass(frozen=True, slots=True)
class Pictures:
    """The preprocessing that a model was trained with."""

    side_px: int
    shortest_px: int  # >= side_px
    mean: tuple[float, ...] = OPENAI_MEAN  # of red, green, blue in 0 … 1
    deviation: tuple[float, ...] = OPENAI_DEVIATION

    def __post_init__(self) -> None:
        if not 1 <= self.side_px <= self.shortest_px:
            raise CheckpointError(f"a crop of {self.side_px} px from {self.shortest_px} px")
        if len(self.mean) != 3 or len(self.deviation) != 3 or min(self.deviation) <= 0:
            raise CheckpointError(f"mean {self.mean} and deviation {self.deviation} of 3 colours")

    def cut(self, pixels: Pixels) -> Pixels:
        """Returns (side_px, side_px, 3) RGB of (height, width, 3) RGB."""
        height, width = pixels.shape[:2]
        shortest = min(height, width)
        new_height = int(self.shortest_px * height / shortest)
        new_width = int(self.shortest_px * width / shortest)
        size = (new_width, new_height)
        resized = np.asarray(Image.fromarray(pixels).resize(size, Image.Resampling.BICUBIC))
        top, left = (new_height - self.side_px) // 2, (new_width - self.side_px) // 2
        return resized[top : top + self.side_px, left : left + self.side_px]


def from_hugging_face(folder: Path, side_px: int) -> Pictures:
    """Reads the processor's file; without one it is OpenAI's. Raises `CheckpointError`."""
    for name in FILES:
        if (folder / name).is_file():
            document = read_json(folder / name)
            try:
                return _pictures(document.get("image_processor", document), side_px)
            except (KeyError, TypeError, ValueError) as error:
                raise CheckpointError(f"{name} is unusable: {error}") from error
    return Pictures(side_px, side_px)


def _pictures(document: Mapping[str, Any], side_px: int) -> Pictures:
    if skipped := [step for step in _STEPS if not document.get(step, True)]:
        raise CheckpointError(f"{skipped[0]} is off, which is not served here")
    if document.get("resample", 3) != Image.Resampling.BICUBIC:
        raise CheckpointError(f"resample is {document['resample']}, expected 3 (bicubic)")
    size, crop = document.get("size", side_px), document.get("crop_size", side_px)
    shortest = size["shortest_edge"] if isinstance(size, dict) else size
    sides = {crop["height"], crop["width"]} if isinstance(crop, dict) else {crop}
    if sides != {side_px}:
        raise CheckpointError(f"crop_size is {crop}, the model takes {side_px} px")
    return Pictures(
        side_px,
        int(shortest),
        tuple(map(float, document.get("image_mean", OPENAI_MEAN))),
        tuple(map(float, document.get("image_std", OPENAI_DEVIATION))),
    )


def from_open_clip(config: Mapping[str, Any], side_px: int) -> Pictures:
    """Reads the `preprocess_cfg` of a configuration; what it leaves out is OpenAI's."""
    part = config.get("preprocess_cfg") or {}
    if part.get("interpolation", "bicubic") != "bicubic":
        raise CheckpointError(f"interpolation is {part['interpolation']}, expected bicubic")
    if part.get("resize_mode", "shortest") != "shortest":
        raise CheckpointError(f"resize_mode is {part['resize_mode']}, expected shortest")
    try:
        mean = tuple(map(float, part.get("mean", OPENAI_MEAN)))
        return Pictures(
            side_px, side_px, mean, tuple(map(float, part.get("std", OPENAI_DEVIATION)))
        )
    except (TypeError, ValueError) as error:
        raise CheckpointError(f"preprocess_cfg is unusable: {error}") from error
