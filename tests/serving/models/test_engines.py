import hashlib
import json
from pathlib import Path

import numpy as np
import pytest

from fomofeed.type.v1 import type_pb2
from serving.engines.onnx import OnnxEngine
from serving.models.artifacts import ArtifactError
from serving.models.engines import CHOICE_FILE, open_engine
from serving.models.folders import Verified
from serving.models.options import ModelOptions
from tests.serving.tiny_models import write_linear


def verified(folder: Path) -> Verified:
    path = write_linear(folder / "model.onnx")
    digest = hashlib.sha256(path.read_bytes()).hexdigest()
    ref = type_pb2.ModelRef(model="linear", version="1", artifact_sha256=digest)
    return Verified(path, ref, None)


def test_named_engine_is_loaded(tmp_path: Path) -> None:
    assert isinstance(open_engine(verified(tmp_path), ModelOptions()), OnnxEngine)


def test_auto_runs_what_is_installed_and_answers_right(tmp_path: Path) -> None:
    engine = open_engine(verified(tmp_path), ModelOptions(engine="auto"))
    x = np.ones((2, 3), np.float32)
    np.testing.assert_allclose(engine.infer({"x": x})["y"], 2 * x + 1, atol=1e-5)


def test_auto_with_several_engines_remembers_its_figures(tmp_path: Path) -> None:
    pytest.importorskip("openvino", reason="needs the extra openvino")
    open_engine(verified(tmp_path), ModelOptions(engine="auto"))
    kept = json.loads((tmp_path / CHOICE_FILE).read_text())
    assert [figure["name"] for figure in kept["figures"]][:2] == ["onnx", "openvino"]
    assert all(figure["seconds"] > 0 for figure in kept["figures"])


def test_a_model_that_does_not_load_is_told_without_a_traceback(tmp_path: Path) -> None:
    broken = verified(tmp_path)
    broken.path.write_bytes(b"not a model")
    with pytest.raises(ArtifactError):
        open_engine(broken, ModelOptions())


def test_an_unknown_engine_is_refused() -> None:
    with pytest.raises(
        ArtifactError, match="engine is 'magic', expected onnx or openvino or torch or auto"
    ):
        ModelOptions(engine="magic")
