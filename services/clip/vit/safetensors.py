"""Reads the safetensors format: tensors as views into a mapped file.

A file is the length of its header (8 bytes, little-endian), the header, and the tensors. The header
is JSON: `{"name": {"dtype": "F32", "shape": [2, 3], "data_offsets": [0, 24]}, …}`, with offsets
from its own end. Nothing in it can run code; what is checked here is that every tensor lies in the
file, has the size of its shape, and shares no byte with another.
"""

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from services.clip.vit.errors import CheckpointError

MAX_HEADER_BYTES = 100 * 1024 * 1024  # as the format's own library
_DTYPES: Mapping[str, tuple[Any, int]] = {
    "F32": (np.dtype("<f4"), 4),
    "F16": (np.dtype("<f2"), 2),
    "BF16": (np.dtype("<u2"), 2),
    "F64": (np.dtype("<f8"), 8),
    "I64": (np.dtype("<i8"), 8),
    "I32": (np.dtype("<i4"), 4),
}


def read_safetensors(path: Path) -> Mapping[str, NDArray[Any]]:
    """Returns the tensors of a file by name, floats as float32. Raises `CheckpointError`."""
    try:
        raw = np.memmap(path, np.uint8, "r")
    except (OSError, ValueError) as error:  # ValueError: an empty file cannot be mapped
        raise CheckpointError(f"{path.name} cannot be read: {error}") from error
    header, start = _header(path, raw)
    body = raw[start:]
    entries = {name: _entry(path, name, entry) for name, entry in header.items()}
    _check_offsets(path, entries, len(body))
    return {name: _tensor(body, *entry) for name, entry in entries.items()}


_Entry = tuple[str, tuple[int, ...], int, int]  # dtype, shape, first and last offset


def _header(path: Path, raw: NDArray[np.uint8]) -> tuple[dict[str, Any], int]:
    length = int.from_bytes(raw[:8].tobytes(), "little")
    if len(raw) < 8 or length > min(MAX_HEADER_BYTES, len(raw) - 8):
        raise CheckpointError(f"{path.name} is no safetensors file: its header is {length} B long")
    try:
        header = json.loads(raw[8 : 8 + length].tobytes())
    except ValueError as error:
        raise CheckpointError(f"{path.name} has a damaged header: {error}") from error
    if not isinstance(header, dict):
        raise CheckpointError(f"{path.name} has a damaged header: no table of tensors")
    header.pop("__metadata__", None)
    return header, 8 + length


def _entry(path: Path, name: str, entry: Any) -> _Entry:
    try:
        dtype, shape = str(entry["dtype"]), tuple(int(size) for size in entry["shape"])
        first, last = (int(offset) for offset in entry["data_offsets"])
    except (KeyError, TypeError, ValueError) as error:
        raise CheckpointError(f"{path.name}: tensor {name} has a damaged entry") from error
    if dtype not in _DTYPES:
        known = ", ".join(_DTYPES)
        raise CheckpointError(f"{path.name}: tensor {name} is {dtype}, expected one of {known}")
    if min(shape, default=0) < 0 or last - first != int(np.prod(shape)) * _DTYPES[dtype][1]:
        raise CheckpointError(
            f"{path.name}: tensor {name} of shape {list(shape)} has {last - first} B"
        )
    return dtype, shape, first, last


def _check_offsets(path: Path, entries: Mapping[str, _Entry], size: int) -> None:
    end = 0
    for _, _, first, last in sorted(entries.values(), key=lambda entry: entry[2:]):
        if first < end:
            raise CheckpointError(f"{path.name}: two tensors share bytes from {first}")
        end = last
    if end > size:
        raise CheckpointError(f"{path.name} ends after {size} B of tensors, {end} are promised")


def _tensor(
    body: NDArray[np.uint8], dtype: str, shape: tuple[int, ...], first: int, last: int
) -> NDArray[Any]:
    values: NDArray[Any] = body[first:last].view(_DTYPES[dtype][0]).reshape(shape)
    if dtype == "BF16":
        return as_float32(values)
    return values.astype(np.float32, copy=False) if values.dtype.kind == "f" else values


def as_float32(bits: NDArray[np.uint16]) -> NDArray[np.float32]:
    """Returns the values of bfloat16 `bits`: the upper halves of float32."""
    return (bits.astype(np.uint32) << np.uint32(16)).view(np.float32)
