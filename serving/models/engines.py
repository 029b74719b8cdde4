"""Which engine runs a model: its file's own, the one that its options name, or the fastest here."""

import logging
from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from serving.engines.choose import Candidate, difference, remembered
from serving.engines.engine import Arrays, Engine, TensorSpec
from serving.engines.ragged import RaggedEngine
from serving.models.artifacts import ArtifactError
from serving.models.candidates import candidates_of, is_native
from serving.models.folders import Verified
from serving.models.options import ModelOptions
from serving.models.warm_up import guessed_shapes, zeros

log = logging.getLogger(__name__)

CHOICE_FILE = "engine.json"  # beside the model: the choice and the figures of all candidates
SAMPLE_ROWS = 4
DEFAULT_TOLERANCE = 1e-3  # of answers, absolute; a manifest or model.yaml states its own


def open_engine(verified: Verified, options: ModelOptions) -> Engine:
    """Loads one engine for the model. Raises `ArtifactError` when it cannot be had or run."""
    try:
        candidates = {c.name: _as_asked(c, options) for c in candidates_of(verified, options)}
        wanted = options.engine or verified.format.engine
        if wanted == "auto":
            native = [c for c in candidates.values() if is_native(c, options.device)]
            wanted = _chosen(verified, options, native)
        elif options.precision != "f32" and not verified.format.is_code:
            wanted = f"{wanted}-{options.precision}"
        if wanted not in candidates:
            raise ArtifactError(_missing(wanted, verified, options, candidates))
        if options.tolerance is not None and options.engine != "auto":
            _check_exact(wanted, options, options.tolerance, candidates)
        return candidates[wanted].load()
    except ArtifactError:
        raise
    except Exception as error:  # the boundary to the engine: told to who loads
        raise ArtifactError(str(error)) from error


def _as_asked(candidate: Candidate, options: ModelOptions) -> Candidate:
    """The candidate as its callers see it, which is with rows."""
    ragged = options.ragged
    if ragged is None:
        return candidate
    return replace(candidate, load=lambda: RaggedEngine(candidate.load(), ragged))


def _missing(
    wanted: str, verified: Verified, options: ModelOptions, there: Mapping[str, Candidate]
) -> str:
    if wanted.startswith("openvino") and options.device == "cpu":
        return "engine openvino needs the extra openvino, and a model.onnx or model.pt2"
    known = ", ".join(there)
    return f"{verified.path.name} on {options.device} has no engine {wanted}, only {known}"


def _check_exact(
    wanted: str, options: ModelOptions, tolerance: float, candidates: Mapping[str, Candidate]
) -> None:
    """Refuses an engine whose answers are further from the reference's than was allowed."""
    reference = next(iter(candidates.values()))
    if reference.name == wanted:
        return
    engine = reference.load()
    sample = _sample(engine.inputs, options)
    found = difference(candidates[wanted].load().infer(sample), engine.infer(sample))
    if found > tolerance:
        raise ArtifactError(
            f"engine {wanted} is off by {found:.2e} from {reference.name}, tolerance {tolerance:g}"
        )


def _chosen(verified: Verified, options: ModelOptions, candidates: Sequence[Candidate]) -> str:
    if len(candidates) == 1:
        return candidates[0].name
    sample = _sample(candidates[0].load().inputs, options)
    tolerance = options.tolerance
    if tolerance is None:
        tolerance = verified.manifest.tolerance if verified.manifest else DEFAULT_TOLERANCE
    file = verified.path.with_name(CHOICE_FILE)
    choice = remembered(file, candidates, sample, tolerance, verified.ref.artifact_sha256)
    for figure in choice.figures:
        shown = figure.error or f"{figure.seconds * 1000:.2f} ms, off by {figure.difference:.1e}"
        log.info("%s: engine %s: %s", verified.ref.model, figure.name, shown)
    log.info("%s: runs on %s", verified.ref.model, choice.name)
    return choice.name


def _sample(inputs: Sequence[TensorSpec], options: ModelOptions) -> Arrays:
    """Returns seeded noise of the warm-up's shapes: zeros would hide a difference of engines."""
    shapes = options.warm_up[0] if options.warm_up else guessed_shapes(inputs)
    source = np.random.default_rng(0)
    return {n: _noise(a, source) for n, a in zeros(inputs, shapes, SAMPLE_ROWS).items()}


def _noise(array: NDArray[Any], source: np.random.Generator) -> NDArray[Any]:
    if array.dtype.kind == "f":
        return source.normal(size=array.shape).astype(array.dtype)
    if array.dtype == np.uint8:
        return source.integers(0, 256, array.shape, np.uint8)
    return array  # ids and texts: what is valid is not known
