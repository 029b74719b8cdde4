"""Reads a TensorFlow.js graph model without TensorFlow, for the build step only.

Such a model is a JSON file (a frozen TensorFlow graph and a list of weights) and one binary file
with the weights in the list's order, as float32, int32 or float16 that stands for float32.
Nothing in either file is executed.
"""

import base64
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray


class TfjsError(ValueError):
    """The files are no graph model, or hold something that is not understood here."""


@dataclass(frozen=True, slots=True)
class Node:
    """One operation of the graph."""

    name: str
    op: str  # TensorFlow's name of the operation
    inputs: tuple[str, ...]
    attributes: Mapping[str, Any]

    def text(self, name: str) -> str:
        """Returns a string attribute, such as the padding."""
        return base64.b64decode(self.attributes[name]["s"]).decode("ascii")

    def texts(self, name: str) -> list[str]:
        """Returns a list of strings, such as the operations fused into this one."""
        items = self.attributes[name]["list"]["s"]
        return [base64.b64decode(item).decode("ascii") for item in items]

    def numbers(self, name: str) -> list[int]:
        """Returns a list of integers, such as the strides."""
        return [int(item) for item in self.attributes[name]["list"]["i"]]


@dataclass(frozen=True, slots=True)
class GraphModel:
    """A graph in the order of its file, which is the order of execution, and its constants."""

    nodes: tuple[Node, ...]
    weights: Mapping[str, NDArray[Any]]


def read_graph_model(topology: bytes, binary: bytes) -> GraphModel:
    """Reads the two files. Raises `TfjsError` when they are damaged or do not fit each other."""
    try:
        document = json.loads(topology)
        (manifest,) = document["weightsManifest"]
        weights = _read_weights(manifest["weights"], binary)
        entries = document["modelTopology"]["node"]
    except (ValueError, KeyError, TypeError) as error:
        raise TfjsError(f"damaged graph model: {error!r}") from error
    nodes = tuple(
        Node(entry["name"], entry["op"], tuple(entry.get("input", ())), entry.get("attr", {}))
        for entry in entries
        if entry["op"] != "Const"
    )
    return GraphModel(nodes, weights)


def _read_weights(
    entries: Sequence[Mapping[str, Any]], binary: bytes
) -> Mapping[str, NDArray[Any]]:
    found, at = {}, 0
    for entry in entries:
        dtype = _stored_dtype(entry)
        count = int(np.prod(entry["shape"], dtype=np.int64))
        values = np.frombuffer(binary, dtype, count, at)
        at += values.nbytes
        wanted = np.float32 if entry["dtype"] == "float32" else np.int32
        found[entry["name"]] = values.reshape(entry["shape"]).astype(wanted)
    if at != len(binary):
        raise TfjsError(f"{len(binary)} bytes of weights, expected {at}")
    return found


def _stored_dtype(entry: Mapping[str, Any]) -> np.dtype[Any]:
    name = entry["quantization"]["dtype"] if "quantization" in entry else entry["dtype"]
    if name not in ("float32", "float16", "int32"):
        raise TfjsError(f"weight {entry['name']} is {name}, expected float32, float16 or int32")
    little: np.dtype[Any] = np.dtype(name).newbyteorder("<")
    return little
