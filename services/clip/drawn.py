"""Tells drawings and pages of text from photographs, by plain statistics.

A drawing made on a computer has flat areas of exactly one colour, which no camera takes; pure white
and black do not count, since a cut-out product or an overexposed sky has them too. A page is bright
paper with a little ink and edges all over. Thresholds were set on the photographs of `photos.yaml`
that are not held out; a painting that was photographed is no drawing here.
"""

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from services.clip.quality import Pixels
from services.clip.tags import Tag

SOURCE = "pixels"
ILLUSTRATION, DOCUMENT = "illustration", "document"
PURE = 7  # levels of 255 from black or white that count as pure
MIN_INNER_SHARE = 0.10  # of pixels that are neither, to judge by
FLAT_SHARE = 0.45
PAGE_PX = 320  # longest side at which a page is judged
PAPER_BLOCK_PX = 16  # larger than the strokes of text
PAPER_LEVEL, INK_LEVEL, EDGE_STEP = 0.85, 0.60, 0.15  # of the paper's brightness
PAPER_SHARE, INK_SHARE, EDGE_SHARE = 0.60, 0.03, 0.035
SPREAD = 0.75
MAX_CHROMA = 30  # mean difference of the channels; text is printed on plain paper


def tags(pixels: Pixels) -> list[Tag]:
    """Returns illustration, document, or nothing, for (height, width, 3) RGB pixels."""
    flat = _flat_share(pixels)
    if flat >= FLAT_SHARE:
        return [Tag(ILLUSTRATION, flat, SOURCE)]
    paper = _paper_share(pixels)
    return [Tag(DOCUMENT, paper, SOURCE)] if paper >= PAPER_SHARE else []


def _flat_share(pixels: Pixels) -> float:
    """Share of the pixels that equal their left and upper neighbours, pure ones left out.

    Every third row is judged, which tells the same and costs a third.
    """
    here, above = _packed(pixels[1::3]), _packed(pixels[:-1:3])
    low, high = _extremes(pixels[1::3, 1:])
    is_inner = (low < 255 - PURE) & (high > PURE)
    if np.count_nonzero(is_inner) < MIN_INNER_SHARE * is_inner.size:
        return 0.0
    is_flat = (here[:, 1:] == here[:, :-1]) & (here[:, 1:] == above[:, 1:])
    return float(is_flat[is_inner].mean())


def _packed(pixels: Pixels) -> NDArray[np.uint32]:
    """One number for each colour."""
    red, green, blue = (pixels[..., channel].astype(np.uint32) for channel in range(3))
    return (red << np.uint32(16)) | (green << np.uint32(8)) | blue


def _extremes(pixels: Pixels) -> tuple[NDArray[np.uint8], NDArray[np.uint8]]:
    """The smallest and the largest channel of each pixel."""
    red, green, blue = (pixels[..., channel] for channel in range(3))
    low, high = np.minimum(np.minimum(red, green), blue), np.maximum(np.maximum(red, green), blue)
    return low, high


def _paper_share(pixels: Pixels) -> float:
    """Share of bright paper where there is text on it, else 0."""
    image = Image.fromarray(pixels)
    image.thumbnail((PAGE_PX, PAGE_PX), Image.Resampling.BOX)
    low, high = _extremes(np.asarray(image))
    if float((high - low).mean()) > MAX_CHROMA:
        return 0.0
    gray = np.asarray(image.convert("L"), np.float32)
    relative = gray / _paper(gray)
    is_edge = np.abs(np.diff(relative, axis=1)) > EDGE_STEP
    ink = float((relative < INK_LEVEL).mean())
    if ink < INK_SHARE or is_edge.mean() < EDGE_SHARE or _spread(is_edge) < SPREAD:
        return 0.0
    return float((relative > PAPER_LEVEL).mean())


def _spread(is_edge: NDArray[np.bool_]) -> float:
    """The smaller share of bands, across and down, that have an edge: text fills its page."""
    shares = []
    for lines in (np.asarray(is_edge.any(axis=0)), np.asarray(is_edge.any(axis=1))):
        starts = np.arange(0, len(lines), PAPER_BLOCK_PX)
        shares.append(float(np.logical_or.reduceat(lines, starts).mean()))
    return min(shares)


def _paper(gray: NDArray[np.float32]) -> NDArray[np.float32]:
    """The brightness of what lies around each pixel: the maxima of blocks, smoothly joined."""
    height, width = gray.shape
    rows, columns = -(-height // PAPER_BLOCK_PX), -(-width // PAPER_BLOCK_PX)
    whole = ((0, rows * PAPER_BLOCK_PX - height), (0, columns * PAPER_BLOCK_PX - width))
    blocks = np.pad(gray, whole, mode="edge").reshape(rows, PAPER_BLOCK_PX, columns, PAPER_BLOCK_PX)
    brightest = Image.fromarray(blocks.max(axis=(1, 3)))
    paper: NDArray[np.float32] = np.asarray(
        brightest.resize((width, height), Image.Resampling.BILINEAR)
    )
    return np.maximum(paper, 1)
