"""Technical quality of a photograph, 0 to 10, with the aspects it is made of.

BRISQUE says how natural the local statistics are, which blur, noise and compression disturb; it
does not see exposure and forgives mild noise. So four plain measurements multiply it: noise in the
quietest blocks, contrast and clipping from the histogram, and the 8 x 8 grid that a hard JPEG
leaves. The constants were set by hand on 19 photographs of the scikit-image, scikit-learn and
imgaug packages and their blurred, noisy, compressed, dark, over-exposed and low-contrast copies, so
this is a heuristic: it orders a photograph and its own damaged copies, and knows no beauty.
"""

import math
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from services.clip.brisque import MIN_SIDE_PX, Brisque

SHORT_SIDE_PX = 384  # pictures are judged at this size, about that of a feed on a phone
LONG_SIDE_PX = 1024  # bounds the time that a panorama takes
LUMINANCE = np.array([0.2125, 0.7154, 0.0721], np.float32)  # ITU-R BT.709, as BRISQUE was trained
BLOCK_PX = 8

Pixels = NDArray[np.uint8]
Gray = NDArray[np.float32]


@dataclass(frozen=True, slots=True)
class Quality:
    """A score and its aspects, each 0 (bad) to 10 (good)."""

    score: float
    aspects: dict[str, float]  # naturalness, sharpness, exposure, contrast, noise, compression


def assess(pixels: Pixels, brisque: Brisque) -> Quality:
    """Judges (height, width, 3) RGB pixels of at least 16 x 16. About 10 ms; releases no GIL."""
    whole = _luminance(pixels)
    gray = _working(whole)
    parts = {
        "naturalness": 1 / (1 + math.exp((brisque.score(gray) - 50) / 20)),
        "exposure": _exposure(gray),
        "contrast": 1 - math.exp(-_spread(gray) / 0.22),
        "noise": 1 / (1 + max(0.0, _noise(gray) - 0.5) / 5),
        "compression": 1 / (1 + max(0.0, _block_grid(whole) - 0.3)),
    }
    score = 10 * math.prod(parts.values())
    parts["sharpness"] = min(max((_fine_detail(gray) - 0.5) / 0.3, 0.0), 1.0)
    return Quality(score, {name: 10 * value for name, value in parts.items()})


def _working(gray: Gray) -> Gray:
    height, width = gray.shape
    scale = min(1.0, SHORT_SIDE_PX / min(height, width), LONG_SIDE_PX / max(height, width))
    if scale == 1.0:
        return gray
    size = (max(round(width * scale), MIN_SIDE_PX), max(round(height * scale), MIN_SIDE_PX))
    resized: Gray = np.asarray(Image.fromarray(gray).resize(size, Image.Resampling.BICUBIC))
    return np.clip(resized, 0, 1)  # bicubic overshoots at edges


def _luminance(pixels: Pixels) -> Gray:
    gray: Gray = (pixels @ LUMINANCE) / np.float32(255)
    return gray


def _percentiles(gray: Gray, *percents: float) -> list[float]:
    """Percentiles to 1/1024 through a histogram, which is much quicker than sorting."""
    counts = np.bincount((gray * 1023).astype(np.intp).ravel(), minlength=1024)
    ranks = np.array(percents) / 100 * gray.size
    return [float(level) / 1023 for level in np.searchsorted(np.cumsum(counts), ranks)]


def _spread(gray: Gray) -> float:
    low, high = _percentiles(gray, 5, 95)
    return high - low


def _exposure(gray: Gray) -> float:
    """1 for a middle brightness with few pixels in one plateau at the top, towards 0 beyond.

    A plateau counts wherever it lies, since a clipped sky that was darkened later is still clipped.
    """
    mean = float(gray.mean())
    distance = mean - min(max(mean, 0.2), 0.75)
    (top,) = _percentiles(gray, 99.8)
    clipped = float((gray >= 0.985 * top).mean())
    return math.exp(-0.5 * (distance / 0.25) ** 2) / (1 + 6 * max(0.0, clipped - 0.01))


def _noise(gray: Gray) -> float:
    """Estimates the deviation of the noise in grey levels of 255, in the quietest 5 % of blocks.

    Immerkær, Fast Noise Variance Estimation (1996), per block; clipped blocks show no noise.
    """
    rows = gray[:-2] - 2 * gray[1:-1] + gray[2:]
    response = np.abs(rows[:, :-2] - 2 * rows[:, 1:-1] + rows[:, 2:])
    strength, brightness = _block_means(response), _block_means(gray[1:-1, 1:-1])
    is_open = (brightness > 0.04) & (brightness < 0.96)
    judged = strength[is_open] if np.count_nonzero(is_open) > 20 else strength.ravel()
    return float(np.percentile(judged, 5)) * math.sqrt(math.pi / 2) / 6 * 255


def _block_means(image: Gray) -> Gray:
    return _pooled(_pooled(_pooled(image)))


def _pooled(image: Gray) -> Gray:
    """Averages 2 x 2 pixels; an odd last row or column is left out."""
    rows, columns = (side // 2 * 2 for side in image.shape)
    tall = image[0:rows:2, :columns] + image[1:rows:2, :columns]
    pooled: Gray = np.float32(0.25) * (tall[:, 0::2] + tall[:, 1::2])
    return pooled


def _block_grid(gray: Gray) -> float:
    """Measures how far steps on the strongest 8-pixel grid exceed the others; 0 without a grid."""
    across, down = np.abs(np.diff(gray, axis=1)), np.abs(np.diff(gray, axis=0)).T
    return min(_periodicity(steps.mean(axis=0)) for steps in (across, down))


def _periodicity(steps: Gray) -> float:
    whole: Gray = steps[: len(steps) // BLOCK_PX * BLOCK_PX].reshape(-1, BLOCK_PX).mean(axis=0)
    usual = float(np.median(whole))
    return (float(whole.max()) - usual) / (usual + 0.5 / 255)


def _fine_detail(gray: Gray) -> float:
    """Compares steps between pixels with steps at half size: 0.5 when blurred, 0.8 when sharp.

    Noise counts as detail here, which is why it is an aspect and no part of the score.
    """
    half = _pooled(gray)
    fine, coarse = (float(np.abs(np.diff(image, axis=1)).mean()) for image in (gray, half))
    return fine / coarse if coarse > 1e-6 else 0.5
