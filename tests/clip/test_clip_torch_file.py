import io
import pickle
import sys
import types
from collections import OrderedDict

import numpy as np
import pytest

from services.clip.torch_file import MAGIC, PROTOCOL, TorchFileError, read_state_dict


class Storage:
    """Stands for a Torch storage while a file is written."""

    def __init__(self, key: str, values: np.ndarray, device: str = "cpu") -> None:
        self.key, self.values, self.device = key, values, device


class Tensor:
    """Stands for a Torch tensor while a file is written."""

    def __init__(self, storage: Storage, shape: tuple[int, ...], strides: tuple[int, ...]) -> None:
        self.arguments = (storage, 0, shape, strides, False, OrderedDict())

    def __reduce__(self) -> tuple[object, ...]:
        return sys.modules["torch._utils"]._rebuild_tensor_v2, self.arguments


class Pickler(pickle.Pickler):
    def persistent_id(self, thing: object) -> object:
        if not isinstance(thing, Storage):
            return None
        kind = sys.modules["torch"].FloatStorage
        return ("storage", kind, thing.key, thing.device, len(thing.values), None)


@pytest.fixture(autouse=True)
def torch_names(monkeypatch: pytest.MonkeyPatch) -> None:
    """Gives the writer the two names that a real file refers to; Torch is not installed."""
    torch, utils = types.ModuleType("torch"), types.ModuleType("torch._utils")
    exec("class FloatStorage: pass", torch.__dict__)
    exec("def _rebuild_tensor_v2(*arguments): pass", utils.__dict__)
    torch.FloatStorage.__module__, utils._rebuild_tensor_v2.__module__ = "torch", "torch._utils"
    monkeypatch.setitem(sys.modules, "torch", torch)
    monkeypatch.setitem(sys.modules, "torch._utils", utils)


def written(state: dict[str, object], *storages: Storage) -> bytes:
    file = io.BytesIO()
    for part in (MAGIC, PROTOCOL, {"little_endian": True}):
        pickle.dump(part, file, protocol=2)
    Pickler(file, protocol=2).dump(OrderedDict(state))
    pickle.dump([storage.key for storage in storages], file, protocol=2)
    for storage in storages:
        file.write(len(storage.values).to_bytes(8, "little") + storage.values.tobytes())
    return file.getvalue()


def six() -> Storage:
    return Storage("7", np.arange(6, dtype=np.float32))


def test_tensors_are_read_by_name_with_their_strides() -> None:
    storage = six()
    tensors = {"plain": Tensor(storage, (2, 3), (3, 1)), "turned": Tensor(storage, (3, 2), (1, 3))}

    found = read_state_dict(written(tensors, storage))

    assert found["plain"].tolist() == [[0, 1, 2], [3, 4, 5]]
    assert found["turned"].tolist() == [[0, 3], [1, 4], [2, 5]]


def test_file_that_asks_for_any_other_name_is_refused_unrun() -> None:
    content = written({"weight": print}, six())
    with pytest.raises(TorchFileError, match=r"asks for __builtin__\.print"):
        read_state_dict(content)


@pytest.mark.parametrize(
    ("shape", "strides"), [((7,), (1,)), ((2, 3), (4, 1)), ((2,), (-1,)), ((0,), (1,))]
)
def test_tensor_outside_of_its_storage_is_refused(
    shape: tuple[int, ...], strides: tuple[int, ...]
) -> None:
    storage = six()
    with pytest.raises(TorchFileError, match="outside of its storage"):
        read_state_dict(written({"weight": Tensor(storage, shape, strides)}, storage))


def test_storage_on_another_device_is_refused() -> None:
    storage = Storage("7", np.zeros(6, np.float32), device="cuda:0")
    with pytest.raises(TorchFileError, match="on cuda:0"):
        read_state_dict(written({"weight": Tensor(storage, (6,), (1,))}, storage))


def test_truncated_file_is_refused_wherever_it_ends() -> None:
    storage = six()
    content = written({"weight": Tensor(storage, (6,), (1,))}, storage)
    for end in range(0, len(content), 7):
        with pytest.raises(TorchFileError):
            read_state_dict(content[:end])


def test_other_pickle_is_no_torch_file() -> None:
    with pytest.raises(TorchFileError, match="no legacy Torch file"):
        read_state_dict(pickle.dumps(1) * 3)
