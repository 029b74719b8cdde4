"""The parts of `model.yaml` that hold more than a word.

batching:
  max_batch_rows: 32                    # rows in one engine call
  max_queue_rows: 512                   # rows that may wait
  max_batch_cost: 4096                  # elements of `cost_of` in one engine call: tokens, pixels
  cost_of: ids                          # an input
  allowed_rows: [1, 2, 4, 8, 16, 32]    # for engines that compile per shape
padding:
  lengths: [16, 32, 64, 128]            # of the second dimension
  inputs: {ids: 0, mask: 0}             # the value to pad each with
  outputs: [tokens]                     # cut back to the length of the request
ragged:                                 # for models made for it, which need no padding
  inputs: [ids]                         # given flat: the elements of all rows in a line
  batch_inputs: {ends: accumulated_element_count}  # or element_count, ..._with_zero
  outputs: [tokens]                     # that have an element each, not a row
  max_elements: 256                     # in one engine call
inputs: [{name: ids, dtype: int64, shape: [-1, -1]}]
outputs: [{name: vector, dtype: float32, shape: [-1, 384]}]
"""

from typing import Any

import numpy as np

from serving.engines.engine import BFLOAT16, TensorSpec
from serving.engines.ragged import MAX_ELEMENTS, Ragged
from serving.models import yaml_values as check
from serving.models.manifest import ArtifactError
from serving.models.padding import Padding
from serving.models.warm_up import Shapes
from serving.scheduling.scheduler import BatchingConfig

_LIMITS = ("max_batch_rows", "max_queue_rows", "max_batch_cost")


def batching(value: object) -> dict[str, Any]:
    """Returns the limits as `batching`, and `allowed_rows` and `cost_of` beside them."""
    values = dict(check.mapping("batching", value, (*_LIMITS, "cost_of", "allowed_rows")))
    found: dict[str, Any] = {}
    if "allowed_rows" in values:
        allowed = check.sequence("batching.allowed_rows", values.pop("allowed_rows"))
        found["allowed_rows"] = tuple(check.count("batching.allowed_rows", n) for n in allowed)
    if "cost_of" in values:
        found["cost_of"] = check.name("batching.cost_of", values.pop("cost_of"))
    for name in ("max_batch_rows", "max_queue_rows"):
        if name in values:
            check.count(f"batching.{name}", values[name])
    if "max_batch_cost" in values:
        check.number("batching.max_batch_cost", values["max_batch_cost"])
    if ("max_batch_cost" in values) != ("cost_of" in found):
        raise ArtifactError("batching.max_batch_cost and batching.cost_of need each other")
    if values:
        found["batching"] = BatchingConfig(**values)
    return {"batching": None, **found}


def padding(value: object) -> Padding:
    """Returns the lengths and values of `padding`."""
    values = check.mapping("padding", value, ("lengths", "inputs", "outputs"))
    lengths = check.sequence("padding.lengths", values.get("lengths"))
    fillings = values.get("inputs")
    if not isinstance(fillings, dict):
        raise ArtifactError(f"padding.inputs is {fillings!r}, expected a value for each input")
    for name, filling in fillings.items():
        if type(filling) not in (int, float):
            raise ArtifactError(f"padding.inputs.{name} is {filling!r}, expected a number")
    return Padding(
        tuple(check.count("padding.lengths", length) for length in lengths),
        {check.name("padding.inputs", name): filling for name, filling in fillings.items()},
        _names("padding.outputs", values.get("outputs", [])),
    )


def ragged(value: object) -> Ragged:
    """Returns what `ragged` says of inputs and outputs."""
    values = check.mapping("ragged", value, ("inputs", "batch_inputs", "outputs", "max_elements"))
    kinds = values.get("batch_inputs")
    if not isinstance(kinds, dict):
        raise ArtifactError(f"ragged.batch_inputs is {kinds!r}, expected a kind for each input")
    return Ragged(
        _names("ragged.inputs", values.get("inputs", [])),
        {check.name("ragged.batch_inputs", name): kind for name, kind in kinds.items()},
        _names("ragged.outputs", values.get("outputs", [])),
        check.count("ragged.max_elements", values.get("max_elements", MAX_ELEMENTS)),
    )


def _names(label: str, value: object) -> tuple[str, ...]:
    return tuple(check.name(label, name) for name in check.sequence(label, value))


def warm_up(value: object) -> tuple[Shapes, ...]:
    """Returns the shapes to warm up with."""
    return tuple(_shapes(entry) for entry in check.sequence("warm_up", value))


def _shapes(entry: object) -> Shapes:
    if not isinstance(entry, dict):
        raise ArtifactError(f"warm_up holds {entry!r}, expected a shape for each input")
    return {str(name): check.sizes(f"warm_up.{name}", shape) for name, shape in entry.items()}


def tensors(label: str, value: object) -> tuple[TensorSpec, ...]:
    """Returns tensors by name, NumPy's name of the type (or bfloat16), and shape."""
    return tuple(_tensor(label, entry) for entry in check.sequence(label, value))


def _tensor(label: str, entry: object) -> TensorSpec:
    values = check.mapping(label, entry, ("name", "dtype", "shape"))
    name = check.name(f"{label}.name", values.get("name"))
    shape = check.sequence(f"{label}.{name}.shape", values.get("shape"))
    if any(type(size) is not int or size < -1 for size in shape):
        raise ArtifactError(f"{label}.{name}.shape is {shape}, expected sizes; -1 = any")
    return TensorSpec(name, _dtype(f"{label}.{name}.dtype", values.get("dtype")), tuple(shape))


def _dtype(label: str, value: object) -> np.dtype[Any]:
    if value == "bfloat16":
        return BFLOAT16
    if value == "string":
        return np.dtype(np.object_)
    try:
        found = np.dtype(check.name(label, value))
    except TypeError:
        found = np.dtype(np.void)
    if found.kind not in "fiub" or found.itemsize > 8:
        raise ArtifactError(f"{label} is {value!r}, expected a type such as float32 or int64")
    return found
