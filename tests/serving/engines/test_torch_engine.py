from pathlib import Path

import numpy as np
import pytest

torch = pytest.importorskip("torch", reason="needs the extra torch")

from serving.engines.torch import TorchEngine  # noqa: E402  # after the check that it can be


def export(path: Path) -> Path:
    torch.manual_seed(1)
    model = torch.nn.Sequential(torch.nn.Linear(8, 16), torch.nn.ReLU(), torch.nn.Linear(16, 3))
    rows = torch.export.Dim("rows", min=1, max=64)
    program = torch.export.export(model, (torch.zeros(2, 8),), dynamic_shapes=({0: rows},))
    torch.export.save(program, path)
    return path


def reference(path: Path, x: np.ndarray) -> np.ndarray:
    with torch.inference_mode():
        return torch.export.load(path).module()(torch.from_numpy(x)).numpy()


def test_tensors_are_read_from_the_program(tmp_path: Path) -> None:
    engine = TorchEngine(export(tmp_path / "model.pt2"))
    assert [(spec.shape, spec.dtype) for spec in engine.inputs] == [((-1, 8), np.dtype("float32"))]
    assert [spec.shape for spec in engine.outputs] == [(-1, 3)]


@pytest.mark.parametrize("rows", [1, 5, 33])
def test_answers_equal_the_programs(tmp_path: Path, rows: int) -> None:
    path = export(tmp_path / "model.pt2")
    engine = TorchEngine(path)
    x = np.random.default_rng(2).normal(size=(rows, 8)).astype(np.float32)
    found = engine.infer({engine.inputs[0].name: x})[engine.outputs[0].name]
    np.testing.assert_allclose(found, reference(path, x), atol=1e-6)


def test_bfloat16_stays_near(tmp_path: Path) -> None:
    path = export(tmp_path / "model.pt2")
    engine = TorchEngine(path, precision="bf16")
    x = np.random.default_rng(2).normal(size=(4, 8)).astype(np.float32)
    found = engine.infer({engine.inputs[0].name: x})[engine.outputs[0].name]
    assert found.dtype == np.float32
    np.testing.assert_allclose(found, reference(path, x), atol=2e-2)


@pytest.mark.gpu
@pytest.mark.parametrize("rows", [1, 5, 32, 33])
def test_captured_graphs_answer_like_the_cpu(tmp_path: Path, rows: int) -> None:
    path = export(tmp_path / "model.pt2")
    engine = TorchEngine(path, device="cuda")
    x = np.random.default_rng(2).normal(size=(rows, 8)).astype(np.float32)
    found = engine.infer({engine.inputs[0].name: x})[engine.outputs[0].name]
    np.testing.assert_allclose(found, reference(path, x), atol=1e-4)
