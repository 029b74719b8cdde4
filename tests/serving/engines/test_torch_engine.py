"""Torch programs as engines. The CUDA part is beside: `test_torch_cuda`."""

from pathlib import Path

import numpy as np
import pytest

pytestmark = pytest.mark.extras
torch = pytest.importorskip("torch", reason="needs the extra torch")

from serving.engines.engine import BFLOAT16, TensorSpec  # noqa: E402  # after the check for Torch
from serving.engines.torch import TorchEngine, tensor_of  # noqa: E402
from serving.engines.torch_files import program_of, read_program  # noqa: E402
from serving.errors import InvalidRequestError  # noqa: E402
from serving.models.invariance import check_invariance, rows_of  # noqa: E402
from serving.scheduling.instances import BatchTooLargeError  # noqa: E402
from tests.serving import tiny_torch  # noqa: E402

X = np.random.default_rng(2).normal(size=(33, 8)).astype(np.float32)


@pytest.fixture(scope="module")
def mlp(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tiny_torch.export(tmp_path_factory.mktemp("mlp") / "model.pt2", tiny_torch.mlp(), 8)


def answer(engine: TorchEngine, x: np.ndarray) -> np.ndarray:
    return engine.infer({engine.inputs[0].name: x})[engine.outputs[0].name]


def reference(x: np.ndarray) -> np.ndarray:
    with torch.inference_mode():
        return tiny_torch.mlp()(torch.from_numpy(x)).numpy()


def test_tensors_and_bounds_are_read_from_the_export(mlp: Path) -> None:
    program = read_program(mlp)
    assert [(spec.shape, spec.dtype) for spec in program.inputs] == [((-1, 8), np.dtype("float32"))]
    assert [spec.shape for spec in program.outputs] == [(-1, 3)]
    assert program.max_rows == 64


def test_outputs_of_a_mapping_are_called_by_its_keys(tmp_path: Path) -> None:
    program = read_program(tiny_torch.export(tmp_path / "model.pt2", tiny_torch.Linear()))
    assert [spec.name for spec in program.outputs] == ["y"]


def test_given_specs_rename_but_do_not_reshape(mlp: Path) -> None:
    renamed = (TensorSpec("features", np.dtype("float32"), (-1, 8)),)
    assert read_program(mlp, renamed).inputs == renamed
    with pytest.raises(ValueError, match=r"inputs of the export are .* float32 \[-1, 8\]"):
        read_program(mlp, (TensorSpec("features", np.dtype("float32"), (-1, 9)),))


@pytest.mark.parametrize("rows", [1, 5, 33])
def test_answers_equal_the_programs(mlp: Path, rows: int) -> None:
    found = answer(TorchEngine(read_program(mlp)), X[:rows])
    np.testing.assert_allclose(found, reference(X[:rows]), atol=1e-6)


def test_bfloat16_is_computed_in_and_stays_near(mlp: Path) -> None:
    engine = TorchEngine(read_program(mlp), precision="bf16")
    found = answer(engine, X)
    assert found.dtype == np.float32
    assert 1e-5 < np.abs(found - reference(X)).max() < 2e-2


def test_weights_of_products_are_cast_once_and_others_stay(tmp_path: Path) -> None:
    class Tied(torch.nn.Module):
        """One table read as vectors and as a product's weight, another as a weight alone."""

        def __init__(self) -> None:
            super().__init__()
            self.table = torch.nn.Embedding(8, 8)
            self.own = torch.nn.Linear(8, 8)

        def forward(self, x: torch.Tensor) -> torch.Tensor:
            vectors = self.own(self.table(x.long()[:, 0]))
            return torch.nn.functional.linear(vectors, self.table.weight).to(torch.float32)

    program = read_program(tiny_torch.export(tmp_path / "model.pt2", Tied()))
    engine = TorchEngine(program, precision="bf16")
    dtypes = {name: value.dtype for name, value in program.module.named_parameters()}
    assert dtypes["own.weight"] is torch.bfloat16
    assert dtypes["table.weight"] is torch.float32
    assert answer(engine, np.ones((2, 3), np.float32)).shape == (2, 8)


def test_an_answer_does_not_depend_on_its_batch(mlp: Path) -> None:
    engine = TorchEngine(read_program(mlp))
    items = [{engine.inputs[0].name: X[at : at + 1]} for at in range(9)]
    check_invariance(rows_of(engine), items, tolerance=1e-5, max_batch_rows=8)


def test_a_size_outside_of_the_export_is_the_callers_mistake(mlp: Path) -> None:
    with pytest.raises(InvalidRequestError, match="64"):
        answer(TorchEngine(read_program(mlp)), np.zeros((65, 8), np.float32))


def test_a_message_is_never_written_to() -> None:
    message = np.frombuffer(bytes(12), np.float32)
    tensor_of(message).fill_(1.0)
    assert not message.any()


def test_bfloat16_tensors_travel_as_their_bits() -> None:
    spec = (TensorSpec("x", BFLOAT16, (-1, 2)),)
    engine = TorchEngine(program_of(torch.nn.Identity(), spec, spec))
    bits = np.array([[0x3F80, 0x4049]], np.uint16).view(BFLOAT16)
    np.testing.assert_array_equal(engine.infer({"x": bits})["x"].view(np.uint16), bits.view("<u2"))


def test_threads_are_those_asked_for_on_each_thread_that_calls(mlp: Path) -> None:
    engine = TorchEngine(read_program(mlp), threads=2)
    answer(engine, X)
    assert torch.get_num_threads() == 2
    torch.set_num_threads(1)


def test_lack_of_memory_is_a_batch_too_large() -> None:
    class Wide(torch.nn.Module):
        """Asks for 4 EiB."""

        def forward(self, x: torch.Tensor) -> torch.Tensor:
            return torch.empty(2**60, dtype=torch.float32)

    spec = (TensorSpec("x", np.dtype("float32"), (-1, 2)),)
    engine = TorchEngine(program_of(Wide(), spec, spec))
    with pytest.raises(BatchTooLargeError):
        engine.infer({"x": np.zeros((1, 2), np.float32)})


def test_torchscript_is_read_with_the_tensors_that_are_given(tmp_path: Path) -> None:
    path = tmp_path / "model.pt"
    with pytest.warns(DeprecationWarning):
        torch.jit.save(torch.jit.script(tiny_torch.mlp()), path)
    specs = [(TensorSpec(n, np.dtype("float32"), (-1, w)),) for n, w in (("x", 8), ("y", 3))]
    found = answer(TorchEngine(read_program(path, *specs)), X)
    np.testing.assert_allclose(found, reference(X), atol=1e-6)
    with pytest.raises(ValueError, match="name inputs and outputs"):
        read_program(path)
