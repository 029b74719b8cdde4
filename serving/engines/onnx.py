"""ONNX Runtime behind the `Engine` protocol.

It is given arrays and not bound buffers: on a CPU binding took 1.1 times as long for a small
perceptron and 3.5 times for a model that computes nothing, and gained nothing measurable for a
text model.
"""

import ctypes
from importlib import metadata
from pathlib import Path
from typing import Any

import numpy as np
import onnxruntime
from numpy.typing import NDArray
from onnxruntime.capi.onnxruntime_pybind11_state import Fail, RuntimeException

from serving.engines.engine import BFLOAT16, Arrays, TensorSpec
from serving.errors import InvalidRequestError, Violation
from serving.scheduling.instances import BatchTooLargeError

_BFLOAT16_TYPE = 16  # onnx.TensorProto.BFLOAT16
_DTYPES: dict[str, Any] = {
    "tensor(float)": np.float32,
    "tensor(double)": np.float64,
    "tensor(float16)": np.float16,
    "tensor(bfloat16)": BFLOAT16,
    "tensor(int8)": np.int8,
    "tensor(int16)": np.int16,
    "tensor(int32)": np.int32,
    "tensor(int64)": np.int64,
    "tensor(uint8)": np.uint8,
    "tensor(uint16)": np.uint16,
    "tensor(uint32)": np.uint32,
    "tensor(uint64)": np.uint64,
    "tensor(bool)": np.bool_,
    "tensor(string)": np.object_,
}
VERSION: str = onnxruntime.__version__
_CUDA = "CUDAExecutionProvider"
_CPU = "CPUExecutionProvider"


class EngineUnavailableError(RuntimeError):
    """The engine cannot run here as it is asked to; the message says what to install or change."""


class OnnxEngine:
    """One ONNX Runtime session with `threads` intra-op threads, on the CPU or a CUDA device."""

    def __init__(self, path: Path, *, threads: int = 1, device: str = "cpu") -> None:
        check_distributions()
        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = threads
        options.inter_op_num_threads = 1
        options.log_severity_level = 3  # a fallback to the CPU is found below, not read in a log
        wanted = [_CUDA, _CPU] if device == "cuda" else [_CPU]
        self._session = onnxruntime.InferenceSession(str(path), options, providers=wanted)
        if wanted[0] not in self._session.get_providers():
            raise EngineUnavailableError(
                f"ONNX Runtime does not use {device}; it found {self._session.get_providers()}. "
                "Install the gpu extra and its CUDA libraries, or set the device to cpu."
            )
        self.inputs = tuple(_spec(value) for value in self._session.get_inputs())
        self.outputs = tuple(_spec(value) for value in self._session.get_outputs())
        self.is_movable = device == "cpu"
        self._names = [spec.name for spec in self.outputs]
        self._texts = [spec.name for spec in self.inputs if spec.dtype == np.object_]
        specs = (*self.inputs, *self.outputs)
        self._run = (
            self._run_values if any(s.dtype == BFLOAT16 for s in specs) else self._session.run
        )

    def infer(self, inputs: Arrays) -> dict[str, NDArray[Any]]:
        """Runs one batch; elements of texts may be `str`, or `bytes` that are UTF-8.

        Raises `BatchTooLargeError` when the device has no memory for it, and `InvalidRequestError`
        for bytes that are no text: ONNX Runtime has no other strings.
        """
        if self._texts:
            inputs = {**inputs, **{name: _decoded(name, inputs[name]) for name in self._texts}}
        try:
            values = self._run(self._names, inputs)
        except (Fail, RuntimeException) as error:
            if "allocate memory" in str(error) or "out of memory" in str(error):
                raise BatchTooLargeError from error
            raise
        return dict(zip(self._names, values, strict=True))

    def _run_values(self, names: list[str], inputs: Arrays) -> list[NDArray[Any]]:
        """Runs with bfloat16 among inputs or outputs, which `run` does not know."""
        values = {name: _value(array) for name, array in inputs.items()}
        return [_array(value) for value in self._session.run_with_ort_values(names, values)]


def _value(array: NDArray[Any]) -> onnxruntime.OrtValue:
    if array.dtype != BFLOAT16:
        return onnxruntime.OrtValue.ortvalue_from_numpy(array)
    bits = np.ascontiguousarray(array).view(np.uint16)
    return onnxruntime.OrtValue.ortvalue_from_numpy_with_onnx_type(bits, _BFLOAT16_TYPE)


def _array(value: onnxruntime.OrtValue) -> NDArray[Any]:
    if value.data_type() != "tensor(bfloat16)":
        array: NDArray[Any] = value.numpy()
        return array
    shape = tuple(value.shape())
    size = int(np.prod(shape)) * BFLOAT16.itemsize
    return np.frombuffer(ctypes.string_at(value.data_ptr(), size), BFLOAT16).reshape(shape)


def _decoded(name: str, texts: NDArray[Any]) -> NDArray[Any]:
    decoded = np.empty(texts.shape, np.object_)
    for index, text in np.ndenumerate(texts):
        try:
            decoded[index] = text.decode() if isinstance(text, bytes) else text
        except UnicodeDecodeError:
            wrong = Violation(f"inputs[{name}]", repr(text[:32]), "UTF-8 text")
            raise InvalidRequestError(wrong) from None
    return decoded


def check_distributions() -> None:
    """Refuses a machine with both ONNX Runtime distributions: they overwrite each other's files."""
    found = [name for name in ("onnxruntime", "onnxruntime-gpu") if _is_installed(name)]
    if len(found) > 1:
        raise EngineUnavailableError(
            "onnxruntime and onnxruntime-gpu are both installed and share one import package: "
            "uninstall both, then install one of the extras cpu and gpu"
        )


def _is_installed(name: str) -> bool:
    try:
        metadata.version(name)
    except metadata.PackageNotFoundError:
        return False
    return True


def _spec(value: Any) -> TensorSpec:
    shape = tuple(size if isinstance(size, int) else -1 for size in value.shape)
    if value.type not in _DTYPES:
        raise EngineUnavailableError(f"{value.name} is a {value.type}, which cannot be served")
    return TensorSpec(value.name, np.dtype(_DTYPES[value.type]), shape)
