"""What can be told from the pixels alone: the palette, and tags that need no model.

Each rule is a plain statistic with its threshold, set on the photographs of `photos.yaml`; a tag's
probability is the share of pixels that it holds for. The source says `pixels`.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from services.clip.tags import Tag

SOURCE = "pixels"
SAMPLE_PX = 48  # longest side of the thumbnail that is counted; median cut takes 10 ms for 96
PALETTE_SIZE = 5
PANORAMA_ASPECT, PANORAMA_PX = 2.0, 768  # a narrow crop is no panorama
GRAY_CHROMA = 8  # levels of 255 between the largest and the smallest channel
GRAY_SHARE = 0.98
DARK_LEVEL, DARK_SHARE, LIGHT_LEVEL = 50, 0.70, 128  # of 255
COLOUR_SATURATION, COLOUR_VALUE, COLOUR_SHARE = 64, 64, 0.50
BROWN_VALUE = 176  # a darker orange is called brown
# Upper end of each hue's range in Pillow's 0 … 255; red is on both ends.
HUES = ((10, "red"), (28, "orange"), (46, "yellow"), (118, "green"), (180, "blue"), (206, "purple"),
        (238, "pink"), (255, "red"))  # fmt: skip

Pixels = NDArray[np.uint8]


@dataclass(frozen=True, slots=True)
class Colour:
    """One colour of a palette."""

    hex: str  # "#rrggbb", lower case
    share: float  # of the picture's pixels, 0 … 1


def look(pixels: Pixels) -> tuple[list[Tag], list[Colour]]:
    """Returns the tags that hold for (height, width, 3) RGB pixels, and their palette.

    Tags: panorama, black-and-white, night, one dominant colour. Palette: up to five colours, the
    most frequent first.
    """
    height, width = pixels.shape[:2]
    is_wide = width >= PANORAMA_ASPECT * height and width >= PANORAMA_PX
    found = [Tag("panorama", 1.0, SOURCE)] if is_wide else []
    thumbnail = Image.fromarray(pixels)
    thumbnail.thumbnail((SAMPLE_PX, SAMPLE_PX), Image.Resampling.BOX)
    return [*found, *_tones(thumbnail)], _palette(thumbnail)


def _palette(thumbnail: Image.Image) -> list[Colour]:
    """Median cut."""
    reduced = thumbnail.quantize(PALETTE_SIZE, Image.Quantize.MEDIANCUT)
    channels = reduced.getpalette() or []
    counts = np.bincount(np.asarray(reduced).ravel(), minlength=PALETTE_SIZE)
    colours = [
        Colour("#" + bytes(channels[3 * at : 3 * at + 3]).hex(), float(counts[at] / counts.sum()))
        for at in np.argsort(-counts, kind="stable")
        if counts[at]
    ]
    return _merged(colours)


def _tones(thumbnail: Image.Image) -> Sequence[Tag]:
    sample = np.asarray(thumbnail).reshape(-1, 3)
    gray_share = float((np.ptp(sample, axis=1) <= GRAY_CHROMA).mean())
    if gray_share >= GRAY_SHARE:
        return [Tag("black-and-white", gray_share, SOURCE)]
    return [*_night(sample), *_dominant_colour(thumbnail)]


def _night(sample: Pixels) -> Sequence[Tag]:
    brightness = sample.max(axis=1)
    dark_share = float((brightness < DARK_LEVEL).mean())
    has_lights = float(np.percentile(brightness, 99)) > LIGHT_LEVEL
    return [Tag("night", dark_share, SOURCE)] if dark_share >= DARK_SHARE and has_lights else []


def _dominant_colour(thumbnail: Image.Image) -> Sequence[Tag]:
    hue, saturation, value = np.asarray(thumbnail.convert("HSV")).reshape(-1, 3).T
    is_coloured = (saturation >= COLOUR_SATURATION) & (value >= COLOUR_VALUE)
    at = np.searchsorted([upper for upper, _ in HUES], hue[is_coloured])
    names = np.array([name for _, name in HUES])[at]
    names[(names == "orange") & (value[is_coloured] < BROWN_VALUE)] = "brown"
    found, counts = np.unique(names, return_counts=True)
    if not counts.size or counts.max() < COLOUR_SHARE * hue.size:
        return []
    share = float(counts.max() / hue.size)
    return [Tag(f"{found[counts.argmax()]} tones", share, SOURCE)]


def _merged(colours: Sequence[Colour]) -> list[Colour]:
    shares: dict[str, float] = {}
    for colour in colours:
        shares[colour.hex] = shares.get(colour.hex, 0.0) + colour.share
    return [Colour(name, share) for name, share in shares.items()]
