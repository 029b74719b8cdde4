"""All that is done with a picture's pixels: decoded, cut for the networks, measured.

It runs in the processes beside the server, so this module imports no engine and no network.
"""

from collections.abc import Callable, Generator
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from services.clip import coco, drawn, faces, pixels, quality
from services.clip.pixels import Colour
from services.clip.quality import Quality
from services.clip.tags import Tag
from serving.media import ImageLimits, decode_image

SIDE_PX = 224  # of what EfficientNet-Lite0 looks at
CROP_SHARE = 224 / 256  # of the shorter side, as it was evaluated

Pixels = NDArray[np.uint8]


@dataclass(frozen=True, slots=True)
class Details:
    """The whole picture, as the detectors take it."""

    thing: Pixels  # (320, 320, 3)
    face: Pixels  # (256, 256, 3)


@dataclass(frozen=True, slots=True)
class Cuts:
    """What the networks look at."""

    crop: Pixels  # (side, side, 3)
    details: Details | None  # where they are wanted of every picture


@dataclass(frozen=True, slots=True)
class Measured:
    """What the pixels alone tell."""

    quality: Quality
    kind: list[Tag]  # illustration or document, else empty
    tags: list[Tag]
    palette: list[Colour]


@dataclass(frozen=True, slots=True)
class Preprocessor:
    """Settings, and the work with them; each method raises `InvalidRequestError` about `field`.

    Decoding takes 5 to 100 ms, measuring 10 to 20.
    """

    limits: ImageLimits
    enough_px: int | None  # the shorter side that a picture may be reduced to; None: not at all
    cut: Callable[[Pixels], Pixels]  # makes the crop of an upright picture
    with_details: bool = False  # at once, of every picture

    def crop(self, content: bytes, field: str) -> Pixels:
        """Returns what the sight looks at."""
        return self.cut(self._decoded(content, field))

    def details(self, content: bytes, field: str) -> Details:
        """Returns what the detectors look at."""
        return _details(self._decoded(content, field))

    def analyze(self, content: bytes, field: str) -> Generator[Cuts, None, Measured]:
        """Yields what the networks look at, as early as it can, and returns what was measured."""
        image = self._decoded(content, field)
        yield Cuts(self.cut(image), _details(image) if self.with_details else None)
        tags, palette = pixels.look(image)
        return Measured(quality.assess(image), drawn.tags(image), tags, palette)

    def _decoded(self, content: bytes, field: str) -> Pixels:
        return decode_image(content, self.limits, self.enough_px, field).pixels


def _details(image: Pixels) -> Details:
    return Details(coco.cut(image), faces.cut(image))


def centre_square(image: Pixels) -> Pixels:
    """Returns the (224, 224, 3) centre of a (height, width, 3) picture."""
    height, width = image.shape[:2]
    side = min(height, width) * CROP_SHARE
    left, top = (width - side) / 2, (height - side) / 2
    box = (left, top, left + side, top + side)
    resized = Image.fromarray(image).resize((SIDE_PX, SIDE_PX), Image.Resampling.BICUBIC, box)
    return np.asarray(resized)
