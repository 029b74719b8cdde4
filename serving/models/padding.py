"""Sequences of different lengths in one batch: padded to common lengths, cut back in the answer.

What stands for "nothing" is said for each input, in `model.yaml`: an attention mask is padded with
0, so that the model does not look at the rest. A length above the last edge is left as it is, and
shares batches with its like alone.
"""

from bisect import bisect_left
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from serving.engines.engine import Arrays
from serving.models.lengths import common_length


@dataclass(frozen=True, slots=True)
class Padding:
    """Which inputs are padded with what, and which outputs have the length of the inputs."""

    lengths: tuple[int, ...]  # edges, ascending, each >= 1
    inputs: Mapping[str, float]  # the value to pad with, by input
    outputs: tuple[str, ...] = ()  # cut back to the length of the request

    def __post_init__(self) -> None:
        if not self.lengths or min(self.lengths) < 1 or sorted({*self.lengths}) != [*self.lengths]:
            raise ValueError(f"padding.lengths is {[*self.lengths]}, expected ascending from 1")
        if not self.inputs:
            raise ValueError("padding.inputs is empty, expected a value for each input to pad")

    def edge(self, length: int) -> int:
        """Returns the length that `length` is padded to."""
        at = bisect_left(self.lengths, length)
        return self.lengths[at] if at < len(self.lengths) else length

    def length(self, inputs: Arrays) -> int:
        """Returns the length of a request; raises `InvalidRequestError` when its inputs differ."""
        return common_length(inputs, self.inputs)

    def pad(self, inputs: Arrays, length: int) -> Arrays:
        """Returns the inputs of `length` with those named padded at the end."""
        edge = self.edge(length)
        if edge == length:
            return inputs
        return {
            name: _padded(array, edge, self.inputs[name]) if name in self.inputs else array
            for name, array in inputs.items()
        }

    def cut(self, outputs: Arrays, length: int) -> dict[str, NDArray[Any]]:
        """Returns the outputs with those named cut back to `length`."""
        return {
            name: array[:, :length] if name in self.outputs else array
            for name, array in outputs.items()
        }


def _padded(array: NDArray[Any], edge: int, value: float) -> NDArray[Any]:
    rows, length, *rest = array.shape
    padded = np.full((rows, edge, *rest), value, array.dtype)
    padded[:, :length] = array
    return padded
