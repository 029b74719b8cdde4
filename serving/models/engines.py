"""Which engine runs a model: the one that its options name, or the one that measures best."""

import logging
from collections.abc import Sequence
from importlib import metadata, util
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from serving.engines.choose import Candidate, has_bfloat16, remembered
from serving.engines.engine import Arrays, Engine, TensorSpec
from serving.engines.onnx import VERSION, OnnxEngine
from serving.models.artifacts import ArtifactError
from serving.models.folders import Verified
from serving.models.options import ModelOptions
from serving.models.warm_up import guessed_shapes, zeros

log = logging.getLogger(__name__)

CHOICE_FILE = "engine.json"  # beside the model: the choice and the figures of all candidates
SAMPLE_ROWS = 4
DEFAULT_TOLERANCE = 1e-3  # of answers, absolute; a manifest states its own


def open_engine(verified: Verified, options: ModelOptions) -> Engine:
    """Loads one engine for the model. Raises `ArtifactError` when it cannot be had or run."""
    try:
        candidates = {c.name: c for c in _candidates(verified.path, options)}
        if options.engine == "onnx":
            return candidates["onnx"].load()
        if options.engine == "auto":
            return candidates[_chosen(verified, options, list(candidates.values()))].load()
        if "openvino" not in candidates:
            raise ArtifactError("engine openvino needs the extra openvino and the device cpu")
        return candidates["openvino"].load()
    except ArtifactError:
        raise
    except Exception as error:  # the boundary to the engine: told to who loads
        raise ArtifactError(str(error)) from error


def _chosen(verified: Verified, options: ModelOptions, candidates: Sequence[Candidate]) -> str:
    if len(candidates) == 1:
        return candidates[0].name
    sample = _sample(candidates[0].load().inputs, options)
    tolerance = verified.manifest.tolerance if verified.manifest else DEFAULT_TOLERANCE
    file = verified.path.with_name(CHOICE_FILE)
    choice = remembered(file, candidates, sample, tolerance, verified.ref.artifact_sha256)
    for figure in choice.figures:
        shown = figure.error or f"{figure.seconds * 1000:.2f} ms, off by {figure.difference:.1e}"
        log.info("%s: engine %s: %s", verified.ref.model, figure.name, shown)
    log.info("%s: runs on %s", verified.ref.model, choice.name)
    return choice.name


def _candidates(path: Path, options: ModelOptions) -> list[Candidate]:
    """The engines that are installed and fit the options; the first is the reference."""

    def onnx() -> Engine:
        return OnnxEngine(path, threads=options.threads, device=options.device)

    def openvino(precision: str) -> Engine:
        from serving.engines.openvino import OpenVinoEngine  # noqa: PLC0415  # an extra

        return OpenVinoEngine(path, threads=options.threads, precision=precision)

    found = [Candidate("onnx", VERSION, onnx)]
    if options.device == "cpu" and util.find_spec("openvino") is not None:
        version = metadata.version("openvino")
        found.append(Candidate("openvino", version, lambda: openvino("f32")))
        if has_bfloat16():
            found.append(Candidate("openvino-bf16", version, lambda: openvino("bf16")))
    return found


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
