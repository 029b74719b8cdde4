"""What a model is run on before its first caller: zeros of known or guessed shapes."""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from serving.engines.engine import TensorSpec

WARM_UP_ROWS = (1, 4)  # two sizes, so that time per call and per row are both learned
Shapes = Mapping[str, tuple[int, ...]]  # of all inputs by name; -1 first for the rows


def guessed_shapes(inputs: Sequence[TensorSpec]) -> Shapes:
    """Shapes to warm up with when nobody names any: 1 for each free dimension but the rows."""
    return {
        spec.name: (*spec.shape[:1], *(size if size >= 0 else 1 for size in spec.shape[1:]))
        for spec in inputs
    }


def zeros(inputs: Sequence[TensorSpec], shapes: Shapes, rows: int) -> dict[str, NDArray[Any]]:
    """Returns inputs of these shapes, with `rows` for a first dimension of -1; empty texts."""
    return {spec.name: _zeros(shapes[spec.name], spec.dtype, rows) for spec in inputs}


def _zeros(shape: tuple[int, ...], dtype: np.dtype[Any], rows: int) -> NDArray[Any]:
    sizes = [size if size >= 0 else 1 for size in shape]
    if shape[:1] == (-1,):
        sizes[0] = rows
    return np.full(sizes, "", dtype) if dtype == np.object_ else np.zeros(sizes, dtype)
