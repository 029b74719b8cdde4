from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper

from serving.engines.engine import BFLOAT16
from serving.engines.onnx import EngineUnavailableError, OnnxEngine
from serving.errors import InvalidRequestError


def cast(path: Path, source: int, target: int) -> OnnxEngine:
    """An engine that casts x (rows, 2) to another type."""
    graph = helper.make_graph(
        [helper.make_node("Cast", ["x"], ["y"], to=target)],
        "cast",
        [helper.make_tensor_value_info("x", source, ["rows", 2])],
        [helper.make_tensor_value_info("y", target, ["rows", 2])],
    )
    opset = [helper.make_opsetid("", 17)]
    onnx.save(helper.make_model(graph, opset_imports=opset, ir_version=8), path)
    return OnnxEngine(path)


def bits(*values: float) -> Any:
    """bfloat16 of exactly representable values, one row."""
    upper = np.array(values, "<f4").view("<u4") >> 16
    return upper.astype("<u2").view(BFLOAT16).reshape(1, -1)


def test_bfloat16_goes_in_and_out_as_its_bits(tmp_path: Path) -> None:
    into = cast(tmp_path / "in.onnx", TensorProto.BFLOAT16, TensorProto.FLOAT)
    assert into.inputs[0].dtype == BFLOAT16
    assert into.infer({"x": bits(1.5, -2)})["y"].tolist() == [[1.5, -2]]
    out = cast(tmp_path / "out.onnx", TensorProto.FLOAT, TensorProto.BFLOAT16)
    answer = out.infer({"x": np.array([[1.5, -2]], np.float32)})["y"]
    assert answer.tobytes() == bits(1.5, -2).tobytes()
    assert out.infer({"x": np.zeros((0, 2), np.float32)})["y"].shape == (0, 2)


def test_texts_are_taken_as_str_and_as_utf8_bytes(tmp_path: Path) -> None:
    engine = cast(tmp_path / "text.onnx", TensorProto.STRING, TensorProto.FLOAT)
    assert engine.infer({"x": np.array([["1.5", b"-2"]], object)})["y"].tolist() == [[1.5, -2]]


def test_bytes_that_are_no_text_are_the_callers_mistake(tmp_path: Path) -> None:
    engine = cast(tmp_path / "text.onnx", TensorProto.STRING, TensorProto.FLOAT)
    with pytest.raises(InvalidRequestError, match=r"inputs\[x\] is b'\\xff', UTF-8 text"):
        engine.infer({"x": np.array([[b"\xff", b"1"]], object)})


def test_a_type_that_cannot_be_served_is_named(tmp_path: Path) -> None:
    with pytest.raises(EngineUnavailableError, match=r"y is a tensor\(float8e5m2\)"):
        graph = helper.make_graph(
            [helper.make_node("Cast", ["x"], ["y"], to=TensorProto.FLOAT8E5M2)],
            "cast",
            [helper.make_tensor_value_info("x", TensorProto.FLOAT, ["rows", 2])],
            [helper.make_tensor_value_info("y", TensorProto.FLOAT8E5M2, ["rows", 2])],
        )
        opset = [helper.make_opsetid("", 19)]
        path = tmp_path / "eight.onnx"
        onnx.save(helper.make_model(graph, opset_imports=opset, ir_version=9), path)
        OnnxEngine(path)
