"""The Torch engine on a CUDA device: exactness, captured graphs, memory (`make gpu-check`)."""

from pathlib import Path

import numpy as np
import pytest

pytestmark = pytest.mark.gpu
torch = pytest.importorskip("torch", reason="needs the extra gpu")

from serving.engines.allowed_rows import AllowedRows  # noqa: E402  # after the check for Torch
from serving.engines.engine import TensorSpec  # noqa: E402
from serving.engines.torch import TorchEngine  # noqa: E402
from serving.engines.torch_files import program_of, read_program  # noqa: E402
from serving.models.invariance import check_invariance, rows_of  # noqa: E402
from serving.models.repository import Repository  # noqa: E402
from serving.scheduling.instances import BatchTooLargeError  # noqa: E402
from tests.serving import tiny_torch  # noqa: E402

X = np.random.default_rng(2).normal(size=(32, 8)).astype(np.float32)
ROWS = (1, 2, 4, 8, 16, 32)
TOLERANCE = {"f32": 1e-5, "bf16": 2e-2}


@pytest.fixture(scope="module")
def mlp(tmp_path_factory: pytest.TempPathFactory) -> Path:
    if not torch.cuda.is_available():
        pytest.skip("Torch finds no CUDA device")
    return tiny_torch.export(tmp_path_factory.mktemp("mlp") / "model.pt2", tiny_torch.mlp(), 8)


def engine(path: Path, precision: str = "f32", device: str = "cuda") -> TorchEngine:
    captured = [((rows, 8),) for rows in ROWS]
    program = read_program(path)
    return TorchEngine(program, device=device, precision=precision, captured=captured)


def answer(engine: TorchEngine | AllowedRows, x: np.ndarray) -> np.ndarray:
    return engine.infer({engine.inputs[0].name: x})[engine.outputs[0].name]


@pytest.mark.parametrize("precision", ["f32", "bf16"])
@pytest.mark.parametrize("rows", [1, 3, 32])
def test_answers_are_those_of_the_cpu(mlp: Path, precision: str, rows: int) -> None:
    found = answer(engine(mlp, precision), X[:rows])
    expected = answer(engine(mlp, device="cpu"), X[:rows])
    np.testing.assert_allclose(found, expected, atol=TOLERANCE[precision])


@pytest.mark.parametrize("precision", ["f32", "bf16"])
def test_a_replayed_graph_answers_as_the_program_does_each_time(mlp: Path, precision: str) -> None:
    captured = engine(mlp, precision)
    called = TorchEngine(read_program(mlp), device="cuda", precision=precision)
    for rows in (*ROWS, *ROWS):
        shuffled = X[np.random.default_rng(rows).permutation(rows)]
        np.testing.assert_allclose(answer(captured, shuffled), answer(called, shuffled), atol=1e-6)


@pytest.mark.parametrize("precision", ["f32", "bf16"])
def test_an_answer_does_not_depend_on_its_batch(mlp: Path, precision: str) -> None:
    filled = AllowedRows(engine(mlp, precision), ROWS)
    items = [{filled.inputs[0].name: X[at : at + 1]} for at in range(9)]
    check_invariance(rows_of(filled), items, tolerance=TOLERANCE[precision], max_batch_rows=8)


def test_lack_of_memory_is_a_batch_too_large_and_the_next_one_is_answered() -> None:
    class Wide(torch.nn.Module):
        """Asks for 4 TiB when there is more than one row."""

        def forward(self, x: torch.Tensor) -> torch.Tensor:
            if x.shape[0] > 1:
                torch.empty(2**42, dtype=torch.uint8, device=x.device)
            return x + 1

    if not torch.cuda.is_available():
        pytest.skip("Torch finds no CUDA device")
    spec = (TensorSpec("x", np.dtype("float32"), (-1, 2)),)
    wide = TorchEngine(program_of(Wide(), spec, spec), device="cuda")
    with pytest.raises(BatchTooLargeError):
        answer(wide, np.zeros((2, 2), np.float32))
    assert answer(wide, np.zeros((1, 2), np.float32)).tolist() == [[1, 1]]


async def test_a_repository_serves_its_model_on_the_device(mlp: Path, tmp_path: Path) -> None:
    tiny_torch.export(tmp_path / "mlp" / "1" / "model.pt2", tiny_torch.mlp(), 8)
    (tmp_path / "mlp" / "model.yaml").write_text("device: cuda\nprecision: bf16\ntolerance: 0.05\n")
    async with Repository(tmp_path) as repository:
        with repository.find("mlp") as served:
            name = served.model.inputs[0].name
            outputs = await served.model.infer({name: X[:5]})
    expected = answer(engine(mlp, device="cpu"), X[:5])
    np.testing.assert_allclose(next(iter(outputs.values())), expected, atol=5e-2)
