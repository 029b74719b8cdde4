from pathlib import Path

import numpy as np
import pytest

pytest.importorskip("openvino", reason="needs the extra openvino")

from serving.engines.onnx import OnnxEngine
from serving.engines.openvino import OpenVinoEngine
from tests.serving.tiny_models import write_linear


def test_engine_reads_tensors_and_answers_like_onnx_runtime(tmp_path: Path) -> None:
    path = write_linear(tmp_path / "model.onnx")
    engine, reference = OpenVinoEngine(path), OnnxEngine(path)
    assert (engine.inputs, engine.outputs) == (reference.inputs, reference.outputs)
    for rows in (1, 3):
        x = {"x": np.random.default_rng(rows).normal(size=(rows, 3)).astype(np.float32)}
        np.testing.assert_allclose(engine.infer(x)["y"], reference.infer(x)["y"], rtol=1e-6)
