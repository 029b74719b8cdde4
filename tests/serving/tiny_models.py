"""Tiny ONNX models for tests, written with onnx's own helpers."""

from pathlib import Path

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper


def write_linear(path: Path, *, batched: bool = True, scale: float = 2.0) -> Path:
    """Writes `y = scale * x + 1` over (rows, 3) float32; a fixed batch of 1 when not batched."""
    rows = "rows" if batched else 1
    graph = helper.make_graph(
        [
            helper.make_node("Mul", ["x", "scale"], ["scaled"]),
            helper.make_node("Add", ["scaled", "one"], ["y"]),
        ],
        "linear",
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, [rows, 3])],
        [helper.make_tensor_value_info("y", TensorProto.FLOAT, [rows, 3])],
        [
            numpy_helper.from_array(np.float32(scale), "scale"),
            numpy_helper.from_array(np.float32(1), "one"),
        ],
    )
    return _save(graph, path)


def write_batch_mean(path: Path) -> Path:
    """Writes `y = mean over the rows of x`: (rows, 3) float32 to (3,), which no batch can share."""
    graph = helper.make_graph(
        [helper.make_node("ReduceMean", ["x"], ["y"], axes=[0], keepdims=0)],
        "mean",
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, ["rows", 3])],
        [helper.make_tensor_value_info("y", TensorProto.FLOAT, ["any"])],
    )
    return _save(graph, path)


def write_text(path: Path) -> Path:
    """Writes `y = x` over (rows, 1) texts."""
    graph = helper.make_graph(
        [helper.make_node("Identity", ["x"], ["y"])],
        "text",
        [helper.make_tensor_value_info("x", TensorProto.STRING, ["rows", 1])],
        [helper.make_tensor_value_info("y", TensorProto.STRING, ["rows", 1])],
    )
    return _save(graph, path)


def write_hungry(path: Path) -> Path:
    """Writes `y = x` over (rows, 3) float32 that asks for 2**44 elements for each of x."""
    graph = helper.make_graph(
        [
            helper.make_node("Unsqueeze", ["x", "axis"], ["apart"]),
            helper.make_node("Expand", ["apart", "many"], ["wide"]),
            helper.make_node("ReduceMax", ["wide"], ["y"], axes=[2], keepdims=0),
        ],
        "hungry",
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, ["rows", 3])],
        [helper.make_tensor_value_info("y", TensorProto.FLOAT, ["rows", 3])],
        [
            numpy_helper.from_array(np.array([2], np.int64), "axis"),
            numpy_helper.from_array(np.array([1, 1, 2**44], np.int64), "many"),
        ],
    )
    return _save(graph, path)


def write_ragged(path: Path, *, leaks: bool = False) -> Path:
    """Writes a ragged model: the sum of each row's ids, and each id doubled.

    `ids` are those of all rows, flat, `ends` the number of ids up to the end of each row. One that
    leaks adds to each id how many there are.
    """
    numbers = {"zero": 0, "one": 1, "two": 2, "first": [0], "second": [1]}
    nodes = [
        ("Size", "ids", "count", {}),
        ("Range", "zero count one", "at", {}),
        ("Unsqueeze", "ends second", "ends_column", {}),
        ("LessOrEqual", "ends_column at", "is_past", {}),
        ("Cast", "is_past", "past", {"to": TensorProto.INT64}),
        ("ReduceSum", "past first", "row", {"keepdims": 0}),
        ("Size", "ends", "row_count", {}),
        ("Range", "zero row_count one", "rows", {}),
        ("Unsqueeze", "rows second", "rows_column", {}),
        ("Equal", "rows_column row", "is_own", {}),
        ("Cast", "is_own", "own", {"to": TensorProto.INT64}),
        ("Mul", "own ids", "own_ids", {}),
        ("ReduceSum", "own_ids second", "sum", {"keepdims": 0}),
        ("Mul", "ids two", "doubled", {}),
        ("Add", f"doubled {'count' if leaks else 'zero'}", "each", {}),
    ]
    graph = helper.make_graph(
        [helper.make_node(op, names.split(), [out], **more) for op, names, out, more in nodes],
        "ragged",
        [
            helper.make_tensor_value_info("ids", TensorProto.INT64, ["ids"]),
            helper.make_tensor_value_info("ends", TensorProto.INT64, ["rows"]),
        ],
        [
            helper.make_tensor_value_info("sum", TensorProto.INT64, ["rows"]),
            helper.make_tensor_value_info("each", TensorProto.INT64, ["ids"]),
        ],
        [numpy_helper.from_array(np.array(v, np.int64), name) for name, v in numbers.items()],
    )
    return _save(graph, path)


def _save(graph: onnx.GraphProto, path: Path) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)
    onnx.save(model, path)
    return path
