"""A Torch export (`model.pt2`) behind the `Engine` protocol. Needs the extra `torch` or `gpu`.

On a GPU each allowed batch size is captured once as a CUDA graph over buffers of its own; a batch
is padded with zeros to the next allowed size and the padding is cut off the answer. On a CPU the
exported program is called as it is.
"""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from serving.engines.engine import Arrays, TensorSpec
from serving.scheduling.batcher import BatchTooLargeError

ALLOWED_ROWS = (1, 2, 4, 8, 16, 32)  # sizes captured on a GPU
_DTYPES = {
    torch.float32: np.float32,
    torch.float64: np.float64,
    torch.float16: np.float16,
    torch.uint8: np.uint8,
    torch.int8: np.int8,
    torch.int16: np.int16,
    torch.int32: np.int32,
    torch.int64: np.int64,
    torch.bool: np.bool_,
}


class TorchEngine:
    """One exported program on one device; its inputs are float32 or integers with rows first.

    `precision` "bf16" runs matrix products in bfloat16 (autocast); answers are float32 again.
    """

    def __init__(
        self,
        path: Path,
        *,
        threads: int = 1,
        device: str = "cpu",
        precision: str = "f32",
        allowed_rows: Sequence[int] = ALLOWED_ROWS,
    ) -> None:
        torch.set_num_threads(threads)
        program = torch.export.load(path)
        self._device = torch.device(device)
        self._autocast = precision == "bf16"
        self._module = program.module().to(self._device)
        self.inputs, self.outputs = _input_specs(program), _output_specs(program)
        self._graphs: dict[int, _Graph] = {}
        if self._device.type == "cuda":
            for rows in sorted(allowed_rows, reverse=True):  # the largest reserves the memory
                self._graphs[rows] = _Graph(self, rows)

    def infer(self, inputs: Arrays) -> dict[str, NDArray[Any]]:
        """Runs one batch; raises `BatchTooLargeError` when the device has no memory for it."""
        rows = next(iter(inputs.values())).shape[0]
        try:
            graph = self._graph(rows)
            values = graph.replay(inputs) if graph else self._eager(inputs)
        except torch.cuda.OutOfMemoryError as error:
            raise BatchTooLargeError from error
        return {
            spec.name: value[:rows].float().cpu().numpy()
            if value.dtype is torch.bfloat16
            else value[:rows].cpu().numpy()
            for spec, value in zip(self.outputs, values, strict=True)
        }

    def forward(self, tensors: Sequence[torch.Tensor]) -> tuple[torch.Tensor, ...]:
        """Calls the program on tensors of its device, without gradients."""
        with (
            torch.inference_mode(),
            torch.autocast(self._device.type, torch.bfloat16, enabled=self._autocast),
        ):
            answer = self._module(*tensors)
        return tuple(answer) if isinstance(answer, tuple | list) else (answer,)

    def _eager(self, inputs: Arrays) -> tuple[torch.Tensor, ...]:
        arrays = (np.ascontiguousarray(inputs[spec.name]) for spec in self.inputs)
        return self.forward([torch.from_numpy(array).to(self._device) for array in arrays])

    def _graph(self, rows: int) -> "_Graph | None":
        sizes = [size for size in self._graphs if size >= rows]
        return self._graphs[min(sizes)] if sizes else None

    def buffers(self, rows: int) -> list[torch.Tensor]:
        """Returns zeroed inputs of `rows` rows on the device; sizes of -1 are 1."""
        return [
            torch.zeros(
                [rows, *(max(size, 1) for size in spec.shape[1:])],
                dtype=torch.from_numpy(np.zeros(1, spec.dtype)).dtype,
                device=self._device,
            )
            for spec in self.inputs
        ]


class _Graph:
    """One captured batch size: fixed buffers, replayed without a launch per kernel."""

    def __init__(self, engine: TorchEngine, rows: int) -> None:
        self._inputs = engine.buffers(rows)
        self._names = [spec.name for spec in engine.inputs]
        stream = torch.cuda.Stream()
        with torch.cuda.stream(stream):  # lazy initialisation must not be captured
            for _ in range(2):
                engine.forward(self._inputs)
        stream.synchronize()
        self._graph = torch.cuda.CUDAGraph()
        with torch.cuda.graph(self._graph):
            self._outputs = engine.forward(self._inputs)

    def replay(self, inputs: Arrays) -> tuple[torch.Tensor, ...]:
        for name, buffer in zip(self._names, self._inputs, strict=True):
            rows = torch.from_numpy(np.ascontiguousarray(inputs[name]))
            buffer[: len(rows)].copy_(rows, non_blocking=True)
            buffer[len(rows) :].zero_()
        self._graph.replay()
        return self._outputs


def _input_specs(program: Any) -> tuple[TensorSpec, ...]:
    names = program.graph_signature.user_inputs
    nodes = {node.name: node.meta["val"] for node in program.graph.nodes if node.name in names}
    return tuple(_spec(name, nodes[name]) for name in names)


def _output_specs(program: Any) -> tuple[TensorSpec, ...]:
    names = program.graph_signature.user_outputs
    nodes = {node.name: node.meta["val"] for node in program.graph.nodes if node.name in names}
    return tuple(_spec(name, nodes[name]) for name in names)


def _spec(name: str, value: Any) -> TensorSpec:
    shape = tuple(size if isinstance(size, int) else -1 for size in value.shape)
    dtype = np.float32 if value.dtype is torch.bfloat16 else _DTYPES[value.dtype]
    return TensorSpec(name, np.dtype(dtype), shape)
