import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from serving.engines.engine import TensorSpec
from serving.engines.onnx import EngineUnavailableError, OnnxEngine
from serving.scheduling.instances import BatchTooLargeError
from tests.serving.tiny_models import write_hungry, write_linear


def test_engine_reads_its_tensors_from_the_model(tmp_path: Path) -> None:
    engine = OnnxEngine(write_linear(tmp_path / "model.onnx"))
    assert engine.inputs == (TensorSpec("x", np.dtype(np.float32), (-1, 3)),)
    assert engine.outputs == (TensorSpec("y", np.dtype(np.float32), (-1, 3)),)


def test_engine_runs_a_batch(tmp_path: Path) -> None:
    engine = OnnxEngine(write_linear(tmp_path / "model.onnx"))
    x = np.arange(6, dtype=np.float32).reshape(2, 3)
    np.testing.assert_allclose(engine.infer({"x": x})["y"], 2 * x + 1)


def test_lack_of_memory_is_a_batch_too_large(tmp_path: Path) -> None:
    engine = OnnxEngine(write_hungry(tmp_path / "model.onnx"))
    with pytest.raises(BatchTooLargeError):
        engine.infer({"x": np.zeros((1, 3), np.float32)})


def test_a_device_that_is_not_there_is_an_error_and_no_silent_fallback(tmp_path: Path) -> None:
    with (
        pytest.raises(EngineUnavailableError, match="does not use cuda"),
        pytest.warns(UserWarning),
    ):
        OnnxEngine(write_linear(tmp_path / "model.onnx"), device="cuda")


def test_an_engine_tells_nobody_of_its_models_and_leaves_nothing_at_home(tmp_path: Path) -> None:
    model, home = write_linear(tmp_path / "model.onnx"), tmp_path / "home"
    home.mkdir()
    code = f"""
from pathlib import Path
from serving.engines.onnx import OnnxEngine
OnnxEngine(Path({str(model)!r}))
"""
    kept = {n: v for n, v in os.environ.items() if n not in ("ORT_DISABLE_TELEMETRY", "CI")}
    subprocess.run([sys.executable, "-c", code], check=True, env={**kept, "HOME": str(home)})
    assert not list(home.rglob("*"))
