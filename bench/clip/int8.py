"""int8 copies of ONNX models by ONNX Runtime's own tools."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from onnxruntime.quantization import (
    CalibrationDataReader,
    QuantFormat,
    QuantType,
    quantize_dynamic,
    quantize_static,
)
from onnxruntime.quantization.shape_inference import quant_pre_process


class _Photographs(CalibrationDataReader):  # type: ignore[misc]  # of an untyped package
    def __init__(self, images: NDArray[np.uint8]) -> None:
        self._rows: Iterator[dict[str, Any]] = iter([{"image": row[None]} for row in images])

    def get_next(self) -> dict[str, Any] | None:
        return next(self._rows, None)


def quantized(path: Path, folder: Path) -> Path:
    """Weights of matrix products in int8, ranges of activations measured at run time."""
    made = folder / f"{path.parent.name}-dynamic-int8.onnx"
    quantize_dynamic(path, made, weight_type=QuantType.QInt8, per_channel=True)
    return made


def quantized_with(path: Path, folder: Path, images: NDArray[np.uint8]) -> Path:
    """Weights and activations in int8, ranges of activations from (N, side, side, 3) `images`."""
    made, prepared = folder / "static-int8.onnx", folder / "prepared.onnx"
    quant_pre_process(path, prepared)
    quantize_static(
        prepared,
        made,
        _Photographs(images),
        quant_format=QuantFormat.QDQ,
        activation_type=QuantType.QUInt8,
        weight_type=QuantType.QInt8,
        per_channel=True,
    )
    return made
