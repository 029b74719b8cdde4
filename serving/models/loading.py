"""From a verified file to a model that is ready to be warmed: engines, limits, checks."""

import logging
from collections.abc import Sequence
from dataclasses import replace

import numpy as np

from serving.engines.allowed_rows import AllowedRows
from serving.engines.cpus import check_plan
from serving.engines.engine import Engine, TensorSpec
from serving.engines.ragged import RaggedEngine
from serving.models.artifacts import ArtifactError
from serving.models.engines import open_engine
from serving.models.expected import allowed_rows, expected_shapes
from serving.models.folders import Verified
from serving.models.manifest import Manifest, Tensor
from serving.models.model import Model, has_rows
from serving.models.options import ModelOptions
from serving.models.probes import (
    check_padding,
    check_ragged,
    rows_are_apart,
    run_zeros,
    try_shapes,
)
from serving.models.ragged import RaggedModel
from serving.models.shaped import ShapedModel
from serving.scheduling.scheduler import BatchingConfig

log = logging.getLogger(__name__)


def load(verified: Verified, options: ModelOptions) -> Model:
    """Loads the engines and makes the model, not warm yet. Blocks; raises `ArtifactError`."""
    name = verified.ref.model
    if warning := check_plan(options.instances, options.threads):
        log.warning("%s: %s", name, warning)
    engines = [open_engine(verified, options) for _ in range(options.instances)]
    if verified.manifest:
        _check_tensors("inputs", verified.manifest.inputs, engines[0].inputs)
        _check_tensors("outputs", verified.manifest.outputs, engines[0].outputs)
    limits = _batching(verified.manifest, options, engines[0])
    engines = [_with_allowed_rows(engine, options, limits) for engine in engines]
    tried = try_shapes(engines[0], options)
    is_batched = has_rows(engines[0]) and all(
        rows_are_apart(engines[0], shapes, alone, options) for shapes, alone in tried
    )
    warm_up = tuple(shapes for shapes, _ in tried)
    if options.ragged:
        ragged = [engine for engine in engines if isinstance(engine, RaggedEngine)]
        check_ragged(ragged[0], options)
        if not is_batched:
            raise ArtifactError("ragged needs a free first dimension of every input and output")
        limits = replace(limits, max_batch_cost=options.ragged.max_elements)
        return RaggedModel(name, ragged, limits, verified.ref, warm_up=warm_up)
    return ShapedModel(
        name,
        engines,
        limits,
        verified.ref,
        is_batched=is_batched,
        warm_up=warm_up,
        padding=check_padding(engines[0], options),
        cost_of=_cost_of(engines[0], options),
    )


def _batching(manifest: Manifest | None, options: ModelOptions, engine: Engine) -> BatchingConfig:
    """The limits of options or manifest, within what the engine takes."""
    limits = options.batching or BatchingConfig()
    if manifest and not options.batching:
        limits = BatchingConfig(max_batch_rows=manifest.max_batch_rows)
    bounds = [getattr(engine, "max_rows", None), max(options.allowed_rows, default=None)]
    most = min(bound for bound in (limits.max_batch_rows, *bounds) if bound)
    return replace(limits, max_batch_rows=most)


def _with_allowed_rows(engine: Engine, options: ModelOptions, limits: BatchingConfig) -> Engine:
    """Fills batches up, for engines that compile per shape; compiles for every shape expected."""
    allowed = allowed_rows(options, limits.max_batch_rows)
    if not allowed or not has_rows(engine):
        return engine
    for shapes in expected_shapes(engine.inputs, options):
        for rows in allowed:
            run_zeros(engine, shapes, rows)
    return AllowedRows(engine, allowed)


def _cost_of(engine: Engine, options: ModelOptions) -> str:
    if options.cost_of and options.cost_of not in [spec.name for spec in engine.inputs]:
        raise ArtifactError(f"batching.cost_of is {options.cost_of}, which is no input")
    return options.cost_of


def _check_tensors(label: str, promised: Sequence[Tensor], found: Sequence[TensorSpec]) -> None:
    """Refuses a model whose tensors are others than its manifest says, if it says."""
    wanted = {t.name: (np.dtype(t.dtype), t.shape) for t in promised}
    there = {spec.name: (spec.dtype, spec.shape) for spec in found}
    if wanted and wanted != there:
        raise ArtifactError(f"{label} are {there}, its manifest says {wanted}")
