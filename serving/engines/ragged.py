"""Rows of different lengths in one engine call, one after the other: nothing is padded.

The model must be made for it. It gets such an input flat, the elements of all rows in a line, and
beside it where each row begins or ends, so that it keeps them apart. Triton calls this a ragged
batch (`allow_ragged_batch`), what tells the rows apart its batch inputs, by the same kinds.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from serving.engines.engine import Arrays, Engine, TensorSpec

MAX_ELEMENTS = 256  # more gained a text model nothing on a CPU, and callers wait for all of it
Counts = NDArray[np.int64]  # elements of each row
_KINDS: Mapping[str, Callable[[Counts], Counts]] = {
    "element_count": lambda counts: counts,
    "accumulated_element_count": np.cumsum,
    "accumulated_element_count_with_zero": lambda counts: np.cumsum([0, *counts]),
}


@dataclass(frozen=True, slots=True)
class Ragged:
    """Which inputs and outputs are flat, and what tells the engine where rows are.

    `batch_inputs` are inputs of the engine and not of its callers: the kind of each, by name.
    """

    inputs: tuple[str, ...]
    batch_inputs: Mapping[str, str]
    outputs: tuple[str, ...] = ()  # of an element each; the others are of a row each
    max_elements: int = MAX_ELEMENTS  # in one engine call, but for one row that has more

    def __post_init__(self) -> None:
        if not self.inputs or not self.batch_inputs:
            raise ValueError("ragged needs inputs and batch_inputs")
        for name, kind in self.batch_inputs.items():
            if kind not in _KINDS:
                raise ValueError(
                    f"ragged.batch_inputs.{name} is {kind!r}, expected {' or '.join(_KINDS)}"
                )


class RaggedEngine:
    """An engine whose callers see rows: shapes of its flat tensors are (rows, length, ...)."""

    def __init__(self, engine: Engine, ragged: Ragged) -> None:
        """Raises `ValueError` when the engine has no such tensors."""
        self.ragged = ragged
        self.is_movable = getattr(engine, "is_movable", False)
        self._engine = engine
        specs = {spec.name: spec for spec in engine.inputs}
        _check_there("batch_inputs", ragged.batch_inputs, engine.inputs)
        self.inputs = tuple(
            spec
            for spec in _rows_seen("inputs", ragged.inputs, engine.inputs)
            if spec.name not in ragged.batch_inputs
        )
        self.outputs = _rows_seen("outputs", ragged.outputs, engine.outputs)
        self._batch_inputs = [
            (name, _KINDS[kind], specs[name].dtype) for name, kind in ragged.batch_inputs.items()
        ]

    def infer(self, inputs: Arrays) -> dict[str, NDArray[Any]]:
        """Runs rows of one length."""
        rows, length = inputs[self.ragged.inputs[0]].shape[:2]
        line = {n: flat(a) if n in self.ragged.inputs else a for n, a in inputs.items()}
        outputs = self.infer_flat(line, np.full(rows, length))
        return {
            name: array.reshape(rows, length, *array.shape[1:])
            if name in self.ragged.outputs
            else array
            for name, array in outputs.items()
        }

    def infer_flat(self, inputs: Arrays, counts: Counts) -> dict[str, NDArray[Any]]:
        """Runs rows of so many elements each; the outputs are as the engine has them."""
        made = {name: kind(counts).astype(dtype) for name, kind, dtype in self._batch_inputs}
        return self._engine.infer({**inputs, **made})


def flat(array: NDArray[Any]) -> NDArray[Any]:
    """Returns (rows, length, ...) as (rows * length, ...), with a size of 0 anywhere too."""
    rows, length, *rest = array.shape
    return array.reshape(rows * length, *rest)


def _rows_seen(
    label: str, names: Sequence[str], specs: Sequence[TensorSpec]
) -> tuple[TensorSpec, ...]:
    _check_there(label, names, specs)
    return tuple(
        TensorSpec(spec.name, spec.dtype, (-1, *spec.shape)) if spec.name in names else spec
        for spec in specs
    )


def _check_there(label: str, names: Sequence[str] | Mapping[str, str], specs: Any) -> None:
    for name in names:
        if not any(spec.name == name and spec.shape[:1] == (-1,) for spec in specs):
            raise ValueError(f"ragged.{label}.{name} is none whose first dimension is free")
