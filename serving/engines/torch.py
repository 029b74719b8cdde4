"""Torch behind the `Engine` protocol, on a CPU or a CUDA device. Needs the extra `torch` or `gpu`.

On a GPU the shapes that are expected are captured once as CUDA graphs over buffers of their own,
and replayed without a launch per kernel; any other shape is called as it is. `AllowedRows` before
the engine sees to it that only captured numbers of rows arrive.
"""

import threading
from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from serving.engines.engine import BFLOAT16, Arrays, TensorSpec
from serving.engines.torch_files import DTYPES, Program
from serving.engines.torch_products import cast_products
from serving.errors import InvalidRequestError, Violation
from serving.scheduling.instances import BatchTooLargeError

_OUT_OF_MEMORY = ("DefaultCPUAllocator", "out of memory", "not enough memory")
_TORCH_DTYPES = {dtype: kind for kind, dtype in DTYPES.items()}

FullShapes = tuple[tuple[int, ...], ...]  # of all inputs in their order, rows first


class TorchEngine:
    """One program on one device, with `threads` intra-op threads on a CPU.

    `precision` "bf16" runs matrix products and convolutions in bfloat16 (autocast); inputs and
    answers keep their types. `captured` are the shapes to capture on a GPU. Not movable: Torch
    keeps the number of threads for each calling thread.
    """

    def __init__(
        self,
        program: Program,
        *,
        threads: int = 1,
        device: str = "cpu",
        precision: str = "f32",
        captured: Sequence[FullShapes] = (),
    ) -> None:
        self.inputs, self.outputs = program.inputs, program.outputs
        self.max_rows = program.max_rows
        self._call, self._device = program.call, torch.device(device)
        self._autocast = precision == "bf16"
        if self._autocast:
            cast_products(program.module)
        program.module.to(self._device)
        self._threads, self._caller = threads, 0
        largest_first = sorted(captured, key=str, reverse=True) if device == "cuda" else ()
        self._graphs = {shapes: _Graph(self, shapes) for shapes in largest_first}

    def infer(self, inputs: Arrays) -> dict[str, NDArray[Any]]:
        """Runs one batch.

        Raises `BatchTooLargeError` when the device has no memory for it, and `InvalidRequestError`
        for sizes that the program was not exported for.
        """
        self._plan_threads()
        arrays = [inputs[spec.name] for spec in self.inputs]
        try:
            graph = self._graphs.get(tuple(array.shape for array in arrays))
            values = graph.replay(arrays) if graph else self.forward(self._tensors(arrays))
            return {
                spec.name: _array(value, spec)
                for spec, value in zip(self.outputs, values, strict=True)
            }
        except AssertionError as error:  # a guard of the export
            wrong = Violation("inputs", "of another shape", str(error).splitlines()[0])
            raise InvalidRequestError(wrong) from None
        except RuntimeError as error:  # torch.OutOfMemoryError is one; a CPU has none of its own
            if any(words in str(error) for words in _OUT_OF_MEMORY):
                raise BatchTooLargeError from error
            raise

    def forward(self, tensors: Sequence[torch.Tensor]) -> Sequence[torch.Tensor]:
        """Calls the program on tensors of its device, without gradients."""
        with (
            torch.inference_mode(),
            torch.autocast(self._device.type, torch.bfloat16, enabled=self._autocast),
        ):
            return self._call(tensors)

    def buffers(self, shapes: FullShapes) -> list[torch.Tensor]:
        """Returns zeroed inputs on the device."""
        return [
            torch.zeros(shape, dtype=_TORCH_DTYPES[spec.dtype], device=self._device)
            for shape, spec in zip(shapes, self.inputs, strict=True)
        ]

    def _tensors(self, arrays: Sequence[NDArray[Any]]) -> list[torch.Tensor]:
        return [tensor_of(array).to(self._device) for array in arrays]

    def _plan_threads(self) -> None:
        caller = threading.get_ident()
        if caller != self._caller:
            torch.set_num_threads(self._threads)
            self._caller = caller


class _Graph:
    """The program captured for one set of shapes: fixed buffers, replayed as a whole."""

    def __init__(self, engine: TorchEngine, shapes: FullShapes) -> None:
        self._inputs = engine.buffers(shapes)
        stream = torch.cuda.Stream()
        stream.wait_stream(torch.cuda.current_stream())  # the buffers are zeroed there
        with torch.cuda.stream(stream):  # lazy initialisation must not be captured
            for _ in range(2):
                engine.forward(self._inputs)
        stream.synchronize()
        self._graph = torch.cuda.CUDAGraph()
        # Other models serve on other threads meanwhile: only this thread must not synchronise.
        with torch.cuda.graph(self._graph, capture_error_mode="thread_local"):
            self._outputs = engine.forward(self._inputs)

    def replay(self, arrays: Sequence[NDArray[Any]]) -> Sequence[torch.Tensor]:
        """Returns the outputs, which the next replay overwrites."""
        for array, buffer in zip(arrays, self._inputs, strict=True):
            buffer.copy_(tensor_of(array))
        self._graph.replay()
        return self._outputs


def tensor_of(array: NDArray[Any]) -> torch.Tensor:
    """Returns a tensor over the array's memory, or over a copy of memory that is read-only.

    A message's bytes are: a program that changes its input in place would change the message.
    """
    array = np.ascontiguousarray(array)
    if not array.flags.writeable:
        array = array.copy()
    if array.dtype == BFLOAT16:
        return torch.from_numpy(array.view(np.int16)).view(torch.bfloat16)
    return torch.from_numpy(array)


def _array(value: torch.Tensor, spec: TensorSpec) -> NDArray[Any]:
    value = value.to(device="cpu", dtype=_TORCH_DTYPES[spec.dtype]).contiguous()
    if spec.dtype == BFLOAT16:
        value = value.view(torch.int16)
    array: NDArray[Any] = value.numpy()
    return array.view(spec.dtype)
