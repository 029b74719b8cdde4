"""How a picture is laid out: whether what catches the eye sits well and whole in the frame.

What catches the eye is found as in Hou and Zhang, Saliency Detection: A Spectral Residual Approach
(2007), on a thumbnail. It sits well near the centre or near a point where the lines of thirds
cross, and badly when much of it lies at the border, where a subject is cut off. A rule of thumb,
which was checked on made-up pictures only: it is told, and no part of the score.
"""

import numpy as np
from numpy.typing import NDArray
from PIL import Image

SIDE_PX = 64
BORDER_PX = 4  # of those 64
BORDER_FREE = 0.25  # share of the eye's attention that may lie there: about its share of the area
THIRDS = (1 / 3, 2 / 3)
PLACES = np.array([(0.5, 0.5), *((x, y) for x in THIRDS for y in THIRDS)])
DISTANCE_SCALE = 0.25  # of the picture's side

Gray = NDArray[np.float32]


def balance(gray: Gray) -> float:
    """Returns 0 (cut off, off every line) to 1 for luminance (height, width) in 0 … 1."""
    attention = salient(gray)
    total = float(attention.sum())
    if total <= 0:
        return 0.5  # nothing catches the eye: neither well nor badly placed
    axis = (np.arange(SIDE_PX) + 0.5) / SIDE_PX
    centre = np.array([(attention.sum(axis=at) @ axis) / total for at in (0, 1)])
    distance = float(np.linalg.norm(PLACES - centre, axis=1).min())
    inner = attention[BORDER_PX:-BORDER_PX, BORDER_PX:-BORDER_PX].sum()
    outside = max(0.0, 1 - float(inner) / total - BORDER_FREE) / (1 - BORDER_FREE)
    return float(np.exp(-0.5 * (distance / DISTANCE_SCALE) ** 2)) * (1 - outside)


def salient(gray: Gray) -> Gray:
    """Returns (64, 64): how much each place catches the eye, all zero where nothing does."""
    small = np.asarray(
        Image.fromarray(gray).resize((SIDE_PX, SIDE_PX), Image.Resampling.BOX), np.float32
    )
    if np.ptp(small) < 1 / 255:
        return np.zeros_like(small)
    spectrum = np.fft.fft2(small)
    logarithm = np.log(np.abs(spectrum) + 1e-9)
    usual = _averaged(np.asarray(logarithm, np.float32))
    residual = np.exp(logarithm - usual + 1j * np.angle(spectrum))
    energy = np.asarray(np.abs(np.fft.ifft2(residual)) ** 2, np.float32)
    smooth = _averaged(_averaged(energy))
    return np.where(smooth >= 3 * smooth.mean(), smooth, np.float32(0))


def _averaged(image: Gray) -> Gray:
    """The mean of 3 x 3 neighbours, edges wrapped: spectra and what they make are periodic."""
    rows = image + np.roll(image, 1, axis=0) + np.roll(image, -1, axis=0)
    around = rows + np.roll(rows, 1, axis=1) + np.roll(rows, -1, axis=1)
    return np.asarray(around / 9, np.float32)
