"""From an encoded image to what the classifier and the measurements are given."""

import hashlib
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from services.clip.quality import SHORT_SIDE_PX
from serving.media import ImageLimits, decode_image

SIDE_PX = 224
CROP_SHARE = 224 / 256  # of the shorter side, as EfficientNet-Lite0 was evaluated

Pixels = NDArray[np.uint8]


@dataclass(frozen=True, slots=True)
class Frame:
    """One image, decoded and cut."""

    pixels: Pixels  # (height, width, 3) RGB, upright; the shorter side below 768
    crop: Pixels  # (224, 224, 3): the centre square, for the classifier
    sha256: str  # of the encoded image


def read_frame(content: bytes, limits: ImageLimits, field: str) -> Frame:
    """Decodes an image; raises `InvalidRequestError` about `field`. 5 to 100 ms: in a thread."""
    pixels = decode_image(content, limits, SHORT_SIDE_PX, field).pixels
    return Frame(pixels, _centre(pixels), hashlib.sha256(content).hexdigest())


def _centre(pixels: Pixels) -> Pixels:
    height, width = pixels.shape[:2]
    side = min(height, width) * CROP_SHARE
    left, top = (width - side) / 2, (height - side) / 2
    box = (left, top, left + side, top + side)
    image = Image.fromarray(pixels)
    return np.asarray(image.resize((SIDE_PX, SIDE_PX), Image.Resampling.BICUBIC, box))
