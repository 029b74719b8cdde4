"""OpenVINO behind the `Engine` protocol, for CPUs. Needs the extra `openvino`.

It reads ONNX files, and Torch exports where Torch is installed too.
"""

import warnings
from pathlib import Path
from typing import Any

import numpy as np
import openvino
from numpy.typing import NDArray

from serving.engines.engine import Arrays, TensorSpec
from serving.scheduling.instances import BatchTooLargeError

_OUT_OF_MEMORY = ("bad allocation", "bad_alloc", "allocate memory")

Specs = tuple[TensorSpec, ...]


class OpenVinoEngine:
    """One compiled model with `threads` threads and one stream.

    `precision` "f32" is exact; "bf16" computes in bfloat16 where the processor has it.
    """

    def __init__(
        self,
        model: Path | openvino.Model,
        *,
        threads: int = 1,
        precision: str = "f32",
        specs: tuple[Specs, Specs] | None = None,
    ) -> None:
        """`specs` are inputs and outputs of a model that has lost their names, in its order."""
        hints = {
            "INFERENCE_NUM_THREADS": threads,
            "NUM_STREAMS": 1,
            "PERFORMANCE_HINT": "LATENCY",
            "INFERENCE_PRECISION_HINT": precision,
        }
        source = str(model) if isinstance(model, Path) else model
        compiled = openvino.Core().compile_model(source, "CPU", hints)
        self._request = compiled.create_infer_request()
        self.inputs, self.outputs = specs or (_specs(compiled.inputs), _specs(compiled.outputs))

    def infer(self, inputs: Arrays) -> dict[str, NDArray[Any]]:
        """Runs one batch. The answers are copies: OpenVINO reuses its own buffers.

        Raises `BatchTooLargeError` when there is no memory for it.
        """
        arrays = {index: inputs[spec.name] for index, spec in enumerate(self.inputs)}
        try:
            self._request.infer(arrays)
        except RuntimeError as error:
            if any(words in str(error) for words in _OUT_OF_MEMORY):
                raise BatchTooLargeError from error
            raise
        return {
            spec.name: np.array(self._request.get_output_tensor(index).data)
            for index, spec in enumerate(self.outputs)
        }


def from_export(path: Path, program: Any, *, threads: int, precision: str) -> OpenVinoEngine:
    """Converts a Torch export, whose tensors `program` names. Raises what the conversion does."""
    import torch  # noqa: PLC0415  # another extra

    with warnings.catch_warnings():
        warnings.simplefilter("ignore", FutureWarning)  # between the two libraries
        model = openvino.convert_model(torch.export.load(path))
    specs = (program.inputs, program.outputs)
    return OpenVinoEngine(model, threads=threads, precision=precision, specs=specs)


def _specs(ports: Any) -> Specs:
    return tuple(_spec(port) for port in ports)


def _spec(port: Any) -> TensorSpec:
    shape = tuple(d.get_length() if d.is_static else -1 for d in port.get_partial_shape())
    return TensorSpec(port.get_any_name(), np.dtype(port.get_element_type().to_dtype()), shape)
