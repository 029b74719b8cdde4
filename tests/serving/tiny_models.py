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
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)
    onnx.save(model, path)
    return path
