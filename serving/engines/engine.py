"""What an engine is: code that runs one model on whole batches, on one device."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

Arrays = Mapping[str, NDArray[Any]]

# NumPy has no bfloat16: its bits, under a dtype of their own, so that they pass for no integers.
BFLOAT16: np.dtype[Any] = np.dtype([("bfloat16", "<u2")])


@dataclass(frozen=True, slots=True)
class TensorSpec:
    """Name, element type and shape of one input or output; -1 is a dimension of any size."""

    name: str
    dtype: np.dtype[Any]
    shape: tuple[int, ...]


class Engine(Protocol):
    """Runs one loaded model. Not thread-safe: an engine belongs to one instance.

    An engine that any one thread at a time may call, not always the same one, says so with a true
    attribute `is_movable`; it need not have it.
    """

    inputs: tuple[TensorSpec, ...]
    outputs: tuple[TensorSpec, ...]

    def infer(self, inputs: Arrays) -> dict[str, NDArray[Any]]:
        """Runs one batch: every input's first dimension is the row, in all of them alike."""
        ...
