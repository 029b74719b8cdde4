"""From a verified file to a model that is ready to be warmed: engines, checks, probes."""

import logging
from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from serving.engines.cpus import check_plan
from serving.engines.engine import Engine, TensorSpec
from serving.models.artifacts import ArtifactError
from serving.models.engines import open_engine
from serving.models.folders import Verified
from serving.models.manifest import Manifest, Tensor
from serving.models.model import Model, has_rows
from serving.models.options import ModelOptions
from serving.models.rows import Outputs
from serving.models.warm_up import Shapes, guessed_shapes, zeros
from serving.scheduling.scheduler import BatchingConfig

log = logging.getLogger(__name__)

_RELATIVE, _ABSOLUTE = 1e-2, 1e-3  # between a row alone and the same row beside another


def load(verified: Verified, options: ModelOptions) -> Model:
    """Loads the engines and makes the model, not warm yet. Blocks; raises `ArtifactError`."""
    name = verified.ref.model
    if warning := check_plan(options.instances, options.threads):
        log.warning("%s: %s", name, warning)
    engines = [open_engine(verified, options) for _ in range(options.instances)]
    if verified.manifest:
        _check_tensors("inputs", verified.manifest.inputs, engines[0].inputs)
        _check_tensors("outputs", verified.manifest.outputs, engines[0].outputs)
    tried = try_shapes(engines[0], options)
    is_batched = has_rows(engines[0]) and all(
        rows_are_apart(engines[0], shapes, alone) for shapes, alone in tried
    )
    limits = _batching(verified.manifest, options)
    warm_up = tuple(shapes for shapes, _ in tried)
    return Model(name, engines, limits, verified.ref, is_batched=is_batched, warm_up=warm_up)


def _batching(manifest: Manifest | None, options: ModelOptions) -> BatchingConfig:
    if options.batching:
        return options.batching
    return BatchingConfig(max_batch_rows=manifest.max_batch_rows) if manifest else BatchingConfig()


def _check_tensors(label: str, promised: Sequence[Tensor], found: Sequence[TensorSpec]) -> None:
    """Refuses a model whose tensors are others than its manifest says, if it says."""
    wanted = {t.name: (np.dtype(t.dtype), t.shape) for t in promised}
    there = {spec.name: (spec.dtype, spec.shape) for spec in found}
    if wanted and wanted != there:
        raise ArtifactError(f"{label} are {there}, its manifest says {wanted}")


def try_shapes(engine: Engine, options: ModelOptions) -> list[tuple[Shapes, Outputs]]:
    """Runs one row of the options' shapes, else of guessed ones; none when the guess fails.

    Raises `ArtifactError` when named shapes, or the only ones that there are, do not run.
    """
    if options.warm_up is not None:
        for shapes in options.warm_up:
            _check_names(shapes, engine.inputs)
        return [(shapes, _run(engine, shapes, 1)) for shapes in options.warm_up]
    guess = guessed_shapes(engine.inputs)
    try:
        return [(guess, _run(engine, guess, 1))]
    except ArtifactError as error:
        if not any(-1 in spec.shape[1:] for spec in engine.inputs):
            raise
        log.warning("no warm-up: shapes %s do not run (%s); name some in model.yaml", guess, error)
        return []


def _check_names(shapes: Shapes, inputs: Sequence[TensorSpec]) -> None:
    names = [spec.name for spec in inputs]
    if sorted(shapes) != sorted(names):
        raise ArtifactError(f"warm_up names {', '.join(shapes)}, expected {', '.join(names)}")


def rows_are_apart(engine: Engine, shapes: Shapes, alone: Outputs) -> bool:
    """Whether a row's answer is the same alone and beside another row; else it is never batched."""
    try:
        beside = _run(engine, shapes, 2)
    except ArtifactError:
        return False
    return all(
        beside[name].shape == (2, *array.shape[1:]) and _is_close(array[0], beside[name][0])
        for name, array in alone.items()
    )


def _is_close(one: NDArray[Any], other: NDArray[Any]) -> bool:
    if one.dtype.kind == "f":
        return np.allclose(one, other, _RELATIVE, _ABSOLUTE, equal_nan=True)
    return bool(np.array_equal(one, other))


def _run(engine: Engine, shapes: Shapes, rows: int) -> Outputs:
    try:
        return engine.infer(zeros(engine.inputs, shapes, rows))
    except Exception as error:  # the boundary to the engine: told to who loads
        raise ArtifactError(f"does not run on zeros of {dict(shapes)}: {error}") from error
