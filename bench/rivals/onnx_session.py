"""What the rival servers run: the same ONNX Runtime with the same settings as our engine.

Is imported by interpreters that have none of this project's packages: NumPy and ONNX Runtime only.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import onnxruntime
from numpy.typing import NDArray

Arrays = Mapping[str, NDArray[Any]]
_DATATYPES = {
    "tensor(float16)": ("FP16", "<f2"),
    "tensor(float)": ("FP32", "<f4"),
    "tensor(int8)": ("INT8", "i1"),
    "tensor(uint8)": ("UINT8", "u1"),
    "tensor(int64)": ("INT64", "<i8"),
    "tensor(string)": ("BYTES", "O"),
}


@dataclass(frozen=True, slots=True)
class Tensor:
    """An input or output in the protocol's words; a size that is free is -1."""

    name: str
    datatype: str
    dtype: np.dtype[Any]
    shape: tuple[int, ...]


class OnnxSession:
    """One session of one thread on the CPU."""

    def __init__(self, file: str | Path) -> None:
        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = options.inter_op_num_threads = 1
        self._session = onnxruntime.InferenceSession(
            str(file), options, providers=["CPUExecutionProvider"]
        )
        self.inputs = [_tensor(value) for value in self._session.get_inputs()]
        self.outputs = [_tensor(value) for value in self._session.get_outputs()]
        self._names = [tensor.name for tensor in self.outputs]

    def run(self, inputs: Arrays) -> dict[str, NDArray[Any]]:
        """Runs one batch."""
        return dict(zip(self._names, self._session.run(self._names, dict(inputs)), strict=True))

    def run_rows(self, items: Sequence[Arrays]) -> list[dict[str, NDArray[Any]]]:
        """Runs one row of each caller in one batch, short ones padded with zeros to the longest."""
        joined = {
            tensor.name: _join([item[tensor.name] for item in items]) for tensor in self.inputs
        }
        outputs = self.run(joined)
        return [
            {name: array[row : row + 1] for name, array in outputs.items()}
            for row in range(len(items))
        ]


def _join(rows: Sequence[NDArray[Any]]) -> NDArray[Any]:
    shapes = {row.shape for row in rows}
    if len(shapes) == 1:
        return np.concatenate(rows)
    sizes = [max(shape[axis] for shape in shapes) for axis in range(1, rows[0].ndim)]
    joined = np.zeros((len(rows), *sizes), rows[0].dtype)
    for at, row in enumerate(rows):
        inside = tuple(slice(size) for size in row.shape[1:])
        joined[at][inside] = row[0]
    return joined


def _tensor(value: Any) -> Tensor:
    datatype, dtype = _DATATYPES[value.type]
    shape = tuple(size if isinstance(size, int) else -1 for size in value.shape)
    return Tensor(value.name, datatype, np.dtype(dtype), shape)
