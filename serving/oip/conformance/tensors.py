"""Tensors of the protocol without NumPy: sizes, fields, sample values, reading of answers."""

import math
import struct
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from inference import grpc_service_pb2 as pb
from serving.oip.conformance.finding import BrokenError, require

Input = pb.ModelInferRequest.InferInputTensor
Metadata = pb.ModelMetadataResponse.TensorMetadata


@dataclass(frozen=True, slots=True)
class Kind:
    """A datatype: `size` in bytes (0 = each element has its own), `struct` letter, typed field."""

    size: int
    letter: str
    field: str


KINDS = {
    "BOOL": Kind(1, "?", "bool_contents"),
    "UINT8": Kind(1, "B", "uint_contents"),
    "UINT16": Kind(2, "H", "uint_contents"),
    "UINT32": Kind(4, "I", "uint_contents"),
    "UINT64": Kind(8, "Q", "uint64_contents"),
    "INT8": Kind(1, "b", "int_contents"),
    "INT16": Kind(2, "h", "int_contents"),
    "INT32": Kind(4, "i", "int_contents"),
    "INT64": Kind(8, "q", "int64_contents"),
    "FP16": Kind(2, "e", ""),
    "BF16": Kind(2, "H", ""),
    "FP32": Kind(4, "f", "fp32_contents"),
    "FP64": Kind(8, "d", "fp64_contents"),
    "BYTES": Kind(0, "", "bytes_contents"),
}
_BF16_OF = (0x0000, 0x3E80, 0x3F00, 0x3F40)  # 0, 0.25, 0.5, 0.75


def samples(datatype: str, count: int, offset: int) -> list[Any]:
    """Returns harmless values that differ: integers 0 and 1, quarters below 1, short texts."""
    at = range(offset, offset + count)
    if datatype == "BYTES":
        return [b"sample %d" % (i % 4) for i in at]
    if datatype == "BOOL":
        return [i % 2 == 1 for i in at]
    if datatype in ("FP16", "FP32", "FP64"):
        return [i % 4 / 4 for i in at]
    if datatype == "BF16":
        return [_BF16_OF[i % 4] for i in at]
    return [i % 2 for i in at]


def to_raw(datatype: str, values: Sequence[Any]) -> bytes:
    """Returns the raw form of values, little-endian."""
    if datatype == "BYTES":
        return b"".join(struct.pack("<I", len(value)) + value for value in values)
    return struct.pack(f"<{len(values)}{KINDS[datatype].letter}", *values)


def make_input(name: str, datatype: str, shape: Sequence[int], values: Sequence[Any]) -> Input:
    """Returns a typed input; for FP16 and BF16, which have no field, one without contents."""
    tensor = Input(name=name, datatype=datatype, shape=shape)
    if field := KINDS[datatype].field:
        getattr(tensor.contents, field).extend(values)
    return tensor


def read_outputs(response: pb.ModelInferResponse) -> dict[str, list[Any]]:
    """Returns the elements of each output. Raises `BrokenError` when size and shape disagree."""
    raws = response.raw_output_contents
    if raws:
        counts = f"{len(raws)} raw entries for {len(response.outputs)} outputs"
        require(len(raws) == len(response.outputs), counts)
    outputs = {}
    for index, tensor in enumerate(response.outputs):
        require(tensor.datatype in KINDS, f"output {tensor.name} is {tensor.datatype or 'untyped'}")
        require(all(size >= 0 for size in tensor.shape), f"output {tensor.name} has a size below 0")
        values = from_raw(tensor.datatype, raws[index]) if raws else _typed(tensor)
        count = math.prod(tensor.shape)
        found = f"output {tensor.name} has {len(values)} elements for shape {list(tensor.shape)}"
        require(len(values) == count, found)
        outputs[tensor.name] = values
    return outputs


def _typed(tensor: pb.ModelInferResponse.InferOutputTensor) -> list[Any]:
    field = KINDS[tensor.datatype].field
    used = [descriptor.name for descriptor, _ in tensor.contents.ListFields()]
    require(used in ([], [field]), f"output {tensor.name} {tensor.datatype} is in {used}")
    return list(getattr(tensor.contents, field)) if field else []


def from_raw(datatype: str, raw: bytes) -> list[Any]:
    """Returns the elements of a raw entry. Raises `BrokenError` when it has parts of elements."""
    if datatype == "BYTES":
        return _split(raw)
    kind = KINDS[datatype]
    require(len(raw) % kind.size == 0, f"{len(raw)} raw bytes for {datatype} of {kind.size}")
    return list(struct.unpack(f"<{len(raw) // kind.size}{kind.letter}", raw))


def _split(raw: bytes) -> list[bytes]:
    elements, at = [], 0
    while at < len(raw):
        if at + 4 > len(raw):
            raise BrokenError(f"raw BYTES end inside a length, at {at}")
        (size,) = struct.unpack_from("<I", raw, at)
        require(at + 4 + size <= len(raw), f"raw BYTES end inside an element, at {at}")
        elements.append(raw[at + 4 : at + 4 + size])
        at += 4 + size
    return elements


def agree(one: Sequence[Any], other: Sequence[Any]) -> bool:
    """Whether two answers are the same, floats within rounding and NaN equal to NaN."""
    return len(one) == len(other) and all(map(_agrees, one, other))


def _agrees(one: Any, other: Any) -> bool:
    if isinstance(one, float) and isinstance(other, float):
        both_nan = math.isnan(one) and math.isnan(other)
        return both_nan or math.isclose(one, other, rel_tol=1e-3, abs_tol=1e-5)
    return bool(one == other)
