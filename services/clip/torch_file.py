"""Reads a state dict from Torch's legacy file format without Torch, for the build step only.

Such a file is five pickles (magic number, protocol, machine, state dict, storage keys) and then the
storages in the order of the keys, each an int64 element count and its raw little-endian elements.
The unpickler knows five names and refuses every other, so that a file cannot run code.
"""

import io
import pickle
from collections import OrderedDict
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.lib.stride_tricks import as_strided
from numpy.typing import NDArray

MAGIC = 0x1950A86A20F9469CFC6C
PROTOCOL = 1001


class TorchFileError(ValueError):
    """The file is not a legacy Torch file of plain CPU tensors."""


@dataclass(frozen=True, slots=True)
class _Storage:
    key: str
    dtype: np.dtype[Any]
    count: int


@dataclass(frozen=True, slots=True)
class _Tensor:
    storage: _Storage
    offset: int
    shape: tuple[int, ...]
    strides: tuple[int, ...]  # in elements

    def view(self, elements: NDArray[Any]) -> NDArray[Any]:
        """Copies the tensor out of its storage's elements, checking that it lies within them."""
        steps = zip(self.shape, self.strides, strict=True)
        last = self.offset + sum((size - 1) * stride for size, stride in steps)
        if min((self.offset, *self.strides)) < 0 or last >= len(elements) or 0 in self.shape:
            raise TorchFileError(f"tensor of shape {self.shape} lies outside of its storage")
        strides = tuple(stride * elements.itemsize for stride in self.strides)
        return as_strided(elements[self.offset :], self.shape, strides).copy()


class _Unpickler(pickle.Unpickler):
    """Builds tuples, numbers, strings, dicts and our own two records; nothing else."""

    def find_class(self, module: str, name: str) -> Any:
        known = {
            ("collections", "OrderedDict"): OrderedDict,
            ("torch._utils", "_rebuild_tensor_v2"): _rebuild_tensor,
            ("torch", "FloatStorage"): np.dtype("<f4"),
            ("torch", "LongStorage"): np.dtype("<i8"),
        }
        if (module, name) not in known:
            raise TorchFileError(f"file asks for {module}.{name}, which is not allowed")
        return known[module, name]

    def persistent_load(self, pid: Any) -> _Storage:
        kind, dtype, key, device, count, _ = pid
        if kind != "storage" or device != "cpu":
            raise TorchFileError(f"{kind} on {device}, expected storage on cpu")
        return _Storage(key, dtype, count)


def read_state_dict(content: bytes) -> Mapping[str, NDArray[Any]]:
    """Returns the tensors of a legacy Torch file by name. Raises `TorchFileError`."""
    file = io.BytesIO(content)
    try:
        magic, protocol, _machine = (_Unpickler(file).load() for _ in range(3))
        if (magic, protocol) != (MAGIC, PROTOCOL):
            raise TorchFileError("no legacy Torch file: wrong magic number or protocol")
        tensors: Mapping[str, _Tensor] = _Unpickler(file).load()
        keys: list[str] = _Unpickler(file).load()
        storages = _read_storages(file, keys, tensors)
        return {name: tensor.view(storages[tensor.storage.key]) for name, tensor in tensors.items()}
    except (pickle.UnpicklingError, EOFError, AttributeError, KeyError, TypeError) as error:
        raise TorchFileError(f"damaged Torch file: {error}") from error


def _rebuild_tensor(
    storage: _Storage, offset: int, shape: tuple[int, ...], strides: tuple[int, ...], *_: object
) -> _Tensor:
    return _Tensor(storage, offset, shape, strides)


def _read_storages(
    file: io.BytesIO, keys: list[str], tensors: Mapping[str, _Tensor]
) -> Mapping[str, NDArray[Any]]:
    known = {tensor.storage.key: tensor.storage for tensor in tensors.values()}
    found = {}
    for key in keys:
        storage = known[key]
        count = int.from_bytes(file.read(8), "little")
        if count != storage.count:
            raise TorchFileError(f"storage {key} has {count} elements, expected {storage.count}")
        raw = file.read(count * storage.dtype.itemsize)
        if len(raw) != count * storage.dtype.itemsize:
            raise TorchFileError(f"file ends inside storage {key}")
        found[key] = np.frombuffer(raw, storage.dtype)
    return found
