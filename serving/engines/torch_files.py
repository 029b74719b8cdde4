"""Torch models as files: an export (`model.pt2`) or TorchScript (`model.pt`), and their tensors.

Torch's loaders evaluate expressions that a file holds and may unpickle: such a file is to be
trusted like code. Its digest says that it is the one that was promised.
"""

import warnings
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch.utils import _pytree as pytree

from serving.engines.engine import BFLOAT16, TensorSpec

DTYPES: dict[torch.dtype, np.dtype[Any]] = {
    torch.float32: np.dtype(np.float32),
    torch.float64: np.dtype(np.float64),
    torch.float16: np.dtype(np.float16),
    torch.bfloat16: BFLOAT16,
    torch.uint8: np.dtype(np.uint8),
    torch.uint16: np.dtype(np.uint16),
    torch.uint32: np.dtype(np.uint32),
    torch.uint64: np.dtype(np.uint64),
    torch.int8: np.dtype(np.int8),
    torch.int16: np.dtype(np.int16),
    torch.int32: np.dtype(np.int32),
    torch.int64: np.dtype(np.int64),
    torch.bool: np.dtype(np.bool_),
}

_NO_BOUND = 2**31  # Torch's infinity is above it, but no number

Specs = tuple[TensorSpec, ...]
Call = Callable[[Sequence[torch.Tensor]], Sequence[Any]]  # flat tensors in, flat values out


@dataclass(frozen=True, slots=True)
class Program:
    """A module that can be called with its inputs in their order, and the tensors it takes."""

    module: torch.nn.Module
    call: Call
    inputs: Specs
    outputs: Specs
    max_rows: int | None = None  # what it was exported for; None: any number


def read_program(path: Path, inputs: Specs = (), outputs: Specs = ()) -> Program:
    """Loads an export or TorchScript. Specs that are given rename and confirm those of an export.

    Raises `ValueError` when specs are missing or others than the file's; else what Torch raises.
    """
    if path.suffix == ".pt":
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", DeprecationWarning)  # in favour of exports; still read
            return program_of(torch.jit.load(path, map_location="cpu"), inputs, outputs)
    return _read_export(path, inputs, outputs)


def program_of(module: torch.nn.Module, inputs: Specs, outputs: Specs) -> Program:
    """Makes a program of a module, which says nothing about its tensors: the specs must."""
    if not inputs or not outputs:
        raise ValueError("a module says nothing of its tensors: name inputs and outputs")
    module.eval()
    return Program(module, lambda tensors: pytree.tree_leaves(module(*tensors)), inputs, outputs)


def _read_export(path: Path, inputs: Specs, outputs: Specs) -> Program:
    program = torch.export.load(path)
    values = {node.name: node.meta["val"] for node in program.graph.nodes if "val" in node.meta}
    signature = program.graph_signature
    names = [name for name in signature.user_inputs if _is_tensor(values, name)]
    found = tuple(_spec(name, values[name]) for name in names)
    called = _output_names(program)
    answers = tuple(
        _spec(called.get(name, name), values[name])
        for name in signature.user_outputs
        if _is_tensor(values, name)
    )
    module = program.module()
    return Program(
        module,
        _flat_call(module, program.call_spec.in_spec, signature.user_inputs, set(names)),
        _confirmed("inputs", inputs, found),
        _confirmed("outputs", outputs, answers),
        _max_rows(program, [values[name] for name in names]),
    )


def _flat_call(
    module: torch.nn.Module, structure: Any, leaves: Sequence[Any], tensors: set[str]
) -> Call:
    """Returns what calls an export as it was called when exported, with keywords and constants."""
    places = [at for at, leaf in enumerate(leaves) if isinstance(leaf, str) and leaf in tensors]

    def call(values: Sequence[torch.Tensor]) -> Sequence[Any]:
        filled = list(leaves)
        for at, value in zip(places, values, strict=True):
            filled[at] = value
        arguments, keywords = pytree.tree_unflatten(filled, structure)
        answer: Sequence[Any] = pytree.tree_leaves(module(*arguments, **keywords))
        return answer

    return call


def _output_names(program: Any) -> dict[str, str]:
    """The keys of a program that answers with a mapping; others have Torch's names alone."""
    answer = pytree.tree_unflatten(
        list(program.graph_signature.user_outputs), program.call_spec.out_spec
    )
    pairs = answer.items() if isinstance(answer, Mapping) else ()
    return {name: key for key, name in pairs if isinstance(name, str) and isinstance(key, str)}


def _is_tensor(values: dict[str, Any], name: Any) -> bool:
    return isinstance(name, str) and isinstance(values.get(name), torch.Tensor)


def _spec(name: str, value: Any) -> TensorSpec:
    shape = tuple(size if isinstance(size, int) else -1 for size in value.shape)
    return TensorSpec(name, DTYPES[value.dtype], shape)


def _confirmed(label: str, given: Specs, found: Specs) -> Specs:
    if not given:
        return found
    if [(s.dtype, s.shape) for s in given] != [(s.dtype, s.shape) for s in found]:
        shown = ", ".join(f"{spec.name} {spec.dtype} {[*spec.shape]}" for spec in found)
        raise ValueError(f"{label} of the export are {shown}")
    return given


def _max_rows(program: Any, inputs: Sequence[torch.Tensor]) -> int | None:
    """The largest number of rows that the export's constraints on its first dimension allow."""
    symbols = {str(value.shape[0]) for value in inputs if value.dim()}
    uppers = [
        int(bounds.upper)
        for symbol, bounds in program.range_constraints.items()
        if str(symbol) in symbols and bounds.upper < _NO_BOUND
    ]
    return min(uppers, default=None)
