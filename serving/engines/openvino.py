"""OpenVINO behind the `Engine` protocol, for CPUs. Needs the extra `openvino`."""

from pathlib import Path
from typing import Any

import numpy as np
import openvino
from numpy.typing import NDArray

from serving.engines.engine import Arrays, TensorSpec


class OpenVinoEngine:
    """One compiled model with `threads` threads and one stream.

    `precision` "f32" is exact; "bf16" computes in bfloat16 where the processor has it.
    """

    def __init__(self, path: Path, *, threads: int = 1, precision: str = "f32") -> None:
        hints = {
            "INFERENCE_NUM_THREADS": threads,
            "NUM_STREAMS": 1,
            "PERFORMANCE_HINT": "LATENCY",
            "INFERENCE_PRECISION_HINT": precision,
        }
        compiled = openvino.Core().compile_model(str(path), "CPU", hints)
        self._request = compiled.create_infer_request()
        self.inputs = tuple(_spec(port) for port in compiled.inputs)
        self.outputs = tuple(_spec(port) for port in compiled.outputs)

    def infer(self, inputs: Arrays) -> dict[str, NDArray[Any]]:
        """Runs one batch. The answers are copies: OpenVINO reuses its own buffers."""
        self._request.infer(dict(inputs))
        return {
            spec.name: np.array(self._request.get_output_tensor(index).data)
            for index, spec in enumerate(self.outputs)
        }


def _spec(port: Any) -> TensorSpec:
    shape = tuple(d.get_length() if d.is_static else -1 for d in port.get_partial_shape())
    return TensorSpec(port.get_any_name(), np.dtype(port.get_element_type().to_dtype()), shape)
