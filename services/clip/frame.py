"""From an encoded image to what the network and the measurements are given."""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from services.clip.sight import Sight
from serving.media import ImageLimits, decode_image

Pixels = NDArray[np.uint8]


@dataclass(frozen=True, slots=True)
class Frame:
    """One image, decoded and cut."""

    pixels: Pixels  # (height, width, 3) RGB, upright; the shorter side below 768 if it may be
    crop: Pixels  # (side, side, 3): what the network looks at


def read_frame(content: bytes, limits: ImageLimits, sight: Sight, field: str) -> Frame:
    """Decodes an image; raises `InvalidRequestError` about `field`. 5 to 100 ms: in a thread."""
    pixels = decode_image(content, limits, sight.enough_px, field).pixels
    return Frame(pixels, sight.cut(pixels))
