"""Reads a state dict from the file that `torch.save` writes, without Torch.

Such a file is a ZIP of `<name>/data.pkl`, a pickle of the dict, and of one `<name>/data/<key>` per
storage. As with Torch's `weights_only`, the unpickler knows a handful of names and refuses every
other, so that a file cannot run code. A TorchScript archive is no state dict and is refused.
"""

import pickle
import zipfile
from collections import OrderedDict
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.lib.stride_tricks import as_strided
from numpy.typing import NDArray

from services.clip.vit.errors import CheckpointError
from services.clip.vit.safetensors import as_float32

_STORAGES: Mapping[str, np.dtype[Any]] = {
    "FloatStorage": np.dtype("<f4"),
    "HalfStorage": np.dtype("<f2"),
    "BFloat16Storage": np.dtype("<u2"),
    "DoubleStorage": np.dtype("<f8"),
    "LongStorage": np.dtype("<i8"),
    "IntStorage": np.dtype("<i4"),
}
_DAMAGE = (pickle.UnpicklingError, zipfile.BadZipFile, OSError, EOFError, AttributeError)
_ODDITIES = (KeyError, TypeError, ValueError, IndexError, NotImplementedError)


@dataclass(frozen=True, slots=True)
class _Storage:
    kind: str
    key: str


@dataclass(frozen=True, slots=True)
class _Tensor:
    storage: _Storage
    offset: int
    shape: tuple[int, ...]
    strides: tuple[int, ...]  # in elements


class _Unpickler(pickle.Unpickler):
    """Builds containers, numbers, strings and our own two records; nothing else."""

    def find_class(self, module: str, name: str) -> Any:
        if (module, name) == ("collections", "OrderedDict"):
            return OrderedDict
        if (module, name) == ("torch._utils", "_rebuild_tensor_v2"):
            return _rebuild_tensor
        if (module, name) == ("torch._utils", "_rebuild_parameter"):
            return _rebuild_parameter
        if module == "torch" and name in _STORAGES:
            return name
        raise CheckpointError(f"the file asks for {module}.{name}, which is not allowed")

    def persistent_load(self, pid: Any) -> _Storage:
        _, kind, key, *_ = pid
        return _Storage(str(kind), str(key))


def read_torch_zip(path: Path) -> Mapping[str, NDArray[Any]]:
    """Returns the tensors of a state dict by name, floats as float32. Raises `CheckpointError`."""
    try:
        with zipfile.ZipFile(path) as archive:
            return _read(archive)
    except CheckpointError as error:
        raise CheckpointError(f"{path.name}: {error}") from error
    except (*_DAMAGE, *_ODDITIES) as error:
        raise CheckpointError(f"{path.name} is no state dict that Torch saved: {error}") from error


def _read(archive: zipfile.ZipFile) -> Mapping[str, NDArray[Any]]:
    names = archive.namelist()
    if any(name.endswith("/constants.pkl") for name in names):
        raise CheckpointError("a TorchScript archive; save its state_dict() as safetensors instead")
    index = next(name for name in names if name.endswith("data.pkl"))
    with archive.open(index) as file:
        loaded = _Unpickler(file).load()
    state = loaded.get("state_dict", loaded)
    folder = index.removesuffix("data.pkl")
    tensors = {name: value for name, value in state.items() if isinstance(value, _Tensor)}
    storages = {tensor.storage for tensor in tensors.values()}
    elements = {storage: _elements(archive, folder, storage) for storage in storages}
    return {name: _view(tensor, elements[tensor.storage]) for name, tensor in tensors.items()}


def _elements(archive: zipfile.ZipFile, folder: str, storage: _Storage) -> NDArray[Any]:
    values: NDArray[Any] = np.frombuffer(
        archive.read(f"{folder}data/{storage.key}"), _STORAGES[storage.kind]
    )
    if storage.kind == "BFloat16Storage":
        return as_float32(values)
    return values.astype(np.float32, copy=False) if values.dtype.kind == "f" else values


def _view(tensor: _Tensor, elements: NDArray[Any]) -> NDArray[Any]:
    """Copies a tensor out of its storage's elements, checking that it lies within them."""
    steps = zip(tensor.shape, tensor.strides, strict=True)
    last = tensor.offset + sum((size - 1) * stride for size, stride in steps)
    is_inside = min((tensor.offset, *tensor.strides)) >= 0 and last < len(elements)
    if not is_inside or 0 in tensor.shape:
        raise CheckpointError(f"a tensor of shape {tensor.shape} lies outside of its storage")
    strides = tuple(stride * elements.itemsize for stride in tensor.strides)
    return as_strided(elements[tensor.offset :], tensor.shape, strides).copy()


def _rebuild_tensor(
    storage: _Storage, offset: int, shape: tuple[int, ...], strides: tuple[int, ...], *_: object
) -> _Tensor:
    return _Tensor(storage, offset, shape, strides)


def _rebuild_parameter(tensor: _Tensor, *_: object) -> _Tensor:
    return tensor
