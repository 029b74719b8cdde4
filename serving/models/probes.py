"""What an engine is asked before it serves: does it run, are rows apart, do lengths leak?"""

import logging
from collections.abc import Iterable, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from serving.engines.engine import Engine, TensorSpec
from serving.engines.ragged import RaggedEngine
from serving.models.artifacts import ArtifactError
from serving.models.expected import expected_shapes, of_lengths
from serving.models.options import ModelOptions
from serving.models.padding import Padding
from serving.models.ragged import RaggedRows, run_ragged
from serving.models.rows import Outputs
from serving.models.warm_up import Shapes, guessed_shapes, zeros

log = logging.getLogger(__name__)

_RAGGED_LENGTHS = (2, 1, 3)
_RELATIVE, _ABSOLUTE = 1e-2, 1e-3  # between a row alone and the same row beside another


def try_shapes(engine: Engine, options: ModelOptions) -> list[tuple[Shapes, Outputs]]:
    """Runs one row of the options' shapes, else of guessed ones; none when the guess fails.

    Raises `ArtifactError` when named shapes, or the only ones that there are, do not run.
    """
    for shapes in options.warm_up or ():
        _check_names(shapes, engine.inputs)
    expected = expected_shapes(engine.inputs, options)
    if options.warm_up is not None:
        return [(shapes, run_zeros(engine, shapes, 1)) for shapes in expected]
    guess = guessed_shapes(engine.inputs)
    try:
        return [(shapes, run_zeros(engine, shapes, 1)) for shapes in expected]
    except ArtifactError as error:
        if not any(-1 in spec.shape[1:] for spec in engine.inputs):
            raise
        log.warning("no warm-up: shapes %s do not run (%s); name some in model.yaml", guess, error)
        return []


def _check_names(shapes: Shapes, inputs: Sequence[TensorSpec]) -> None:
    names = [spec.name for spec in inputs]
    if sorted(shapes) != sorted(names):
        raise ArtifactError(f"warm_up names {', '.join(shapes)}, expected {', '.join(names)}")


def rows_are_apart(engine: Engine, shapes: Shapes, alone: Outputs, options: ModelOptions) -> bool:
    """Whether a row's answer is the same alone and beside another row; else it is never batched."""
    try:
        beside = run_zeros(engine, shapes, 2)
    except ArtifactError:
        return False
    return all(
        beside[name].shape == (2, *array.shape[1:])
        and _is_close(array[0], beside[name][0], options)
        for name, array in alone.items()
    )


def check_padding(engine: Engine, options: ModelOptions) -> Padding | None:
    """Returns the options' padding when a sequence is answered alike alone and padded.

    Raises `ArtifactError` when it names tensors that are not there, or when what is padded leaks
    into the answer: then callers would get answers that depend on how long others' texts are.
    """
    padding = options.padding
    if padding is None:
        return None
    _check_padded("inputs", padding.inputs, engine.inputs)
    _check_padded("outputs", padding.outputs, engine.outputs)
    length = max(1, padding.lengths[-1] - 1)
    shapes = expected_shapes(engine.inputs, options)[-1:]
    (short,) = of_lengths((length,), padding.inputs, shapes)
    inputs = {n: np.ones_like(a) for n, a in zeros(engine.inputs, short, 1).items()}
    alone = engine.infer(inputs)
    padded = padding.cut(engine.infer(padding.pad(inputs, length)), length)
    for name, array in alone.items():
        if array.shape != padded[name].shape or not _is_close(array, padded[name], options):
            raise ArtifactError(f"padding leaks into output {name}; is a mask missing?")
    return padding


def check_ragged(engine: RaggedEngine, options: ModelOptions) -> None:
    """Raises `ArtifactError` when a row is answered otherwise beside rows of other lengths."""
    shapes = expected_shapes(engine.inputs, options)
    items = []
    for number, sized in enumerate(of_lengths(_RAGGED_LENGTHS, engine.ragged.inputs, shapes)):
        arrays = {n: _filled(a, number % 2) for n, a in zeros(engine.inputs, sized, 1).items()}
        items.append(RaggedRows(arrays, 1, engine.ragged))
    try:
        alone = [engine.infer(item.arrays) for item in items]
        together, _ = run_ragged(engine, items)
    except Exception as error:  # the boundary to the engine: told to who loads
        raise ArtifactError(f"does not run on rows of {_RAGGED_LENGTHS}: {error}") from error
    for one, other in zip(alone, together, strict=True):
        for name, array in one.items():
            if array.shape != other[name].shape or not _is_close(array, other[name], options):
                raise ArtifactError(f"rows of other lengths leak into output {name}")


def _filled(array: NDArray[Any], number: int) -> NDArray[Any]:
    """An array of 0 or 1, which models take: rows differ from their neighbours, so leaks show."""
    return np.full_like(array, str(number) if array.dtype == np.object_ else number)


def _check_padded(label: str, names: Iterable[str], specs: Sequence[TensorSpec]) -> None:
    for name in names:
        if not any(spec.name == name and spec.shape[1:2] == (-1,) for spec in specs):
            raise ArtifactError(f"padding.{label}.{name} is none whose second dimension is free")


def _is_close(one: NDArray[Any], other: NDArray[Any], options: ModelOptions) -> bool:
    if one.dtype.kind != "f":
        return bool(np.array_equal(one, other))
    if options.tolerance is not None:
        return np.allclose(one, other, 0.0, options.tolerance, equal_nan=True)
    return np.allclose(one, other, _RELATIVE, _ABSOLUTE, equal_nan=True)


def run_zeros(engine: Engine, shapes: Shapes, rows: int) -> Outputs:
    """Runs zeros of these shapes. Raises `ArtifactError` when the engine does not."""
    try:
        return engine.infer(zeros(engine.inputs, shapes, rows))
    except Exception as error:  # the boundary to the engine: told to who loads
        raise ArtifactError(f"does not run on zeros of {dict(shapes)}: {error}") from error
