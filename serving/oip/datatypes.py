"""The datatypes of the Open Inference Protocol: what each is in NumPy and in typed contents."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np

from inference import model_config_pb2 as config_pb
from serving.engines.engine import BFLOAT16


@dataclass(frozen=True, slots=True)
class Datatype:
    """One row of the table. `dtype` is little-endian, as the raw form is."""

    name: str
    dtype: np.dtype[Any]
    field: str  # of `InferTensorContents`; empty for those that only have a raw form
    config_type: "config_pb.DataType.ValueType"

    @property
    def is_bytes(self) -> bool:
        """Whether elements have a length of their own."""
        return self.name == "BYTES"


def _row(
    name: str, dtype: Any, field: str, config_type: "config_pb.DataType.ValueType"
) -> Datatype:
    return Datatype(name, np.dtype(dtype), field, config_type)


_TABLE = (
    _row("BOOL", np.bool_, "bool_contents", config_pb.TYPE_BOOL),
    _row("UINT8", "u1", "uint_contents", config_pb.TYPE_UINT8),
    _row("UINT16", "<u2", "uint_contents", config_pb.TYPE_UINT16),
    _row("UINT32", "<u4", "uint_contents", config_pb.TYPE_UINT32),
    _row("UINT64", "<u8", "uint64_contents", config_pb.TYPE_UINT64),
    _row("INT8", "i1", "int_contents", config_pb.TYPE_INT8),
    _row("INT16", "<i2", "int_contents", config_pb.TYPE_INT16),
    _row("INT32", "<i4", "int_contents", config_pb.TYPE_INT32),
    _row("INT64", "<i8", "int64_contents", config_pb.TYPE_INT64),
    _row("FP16", "<f2", "", config_pb.TYPE_FP16),
    _row("BF16", BFLOAT16, "", config_pb.TYPE_BF16),
    _row("FP32", "<f4", "fp32_contents", config_pb.TYPE_FP32),
    _row("FP64", "<f8", "fp64_contents", config_pb.TYPE_FP64),
    _row("BYTES", np.object_, "bytes_contents", config_pb.TYPE_STRING),
)
BY_NAME: Mapping[str, Datatype] = {row.name: row for row in _TABLE}
_BY_DTYPE: Mapping[np.dtype[Any], Datatype] = {row.dtype: row for row in _TABLE}


def datatype_of(dtype: np.dtype[Any]) -> Datatype:
    """Returns the datatype that carries `dtype`. Raises `KeyError` when the protocol has none."""
    if dtype.kind in "US":  # NumPy's text and bytes of a fixed width
        return BY_NAME["BYTES"]
    return _BY_DTYPE[dtype]
