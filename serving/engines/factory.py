"""A Python file that makes an engine: `model.py` with a function `load`.

    def load(folder: pathlib.Path, device: str, threads: int) -> Engine | torch.nn.Module:
        ...

`folder` is the version's own, where weights may lie; `device` is "cpu" or "cuda", `threads` the
intra-op threads to use. What it returns is an `Engine` (attributes `inputs` and `outputs`, method
`infer`), or a module, whose tensors `model.yaml` then names. It is called once for each instance.
"""

import sys
from hashlib import sha256
from pathlib import Path
from types import ModuleType
from typing import Any

_FUNCTION = "load"


class FactoryError(RuntimeError):
    """The file does not run, or does not make an engine; the message says which."""


def call_factory(path: Path, device: str, threads: int) -> Any:
    """Runs the file, which is code, and returns what its `load` does. Raises `FactoryError`."""
    source = path.read_bytes()
    try:
        module = _run(path, source)
        load = getattr(module, _FUNCTION, None)
        if not callable(load):
            raise FactoryError(f"{path.name} has no function {_FUNCTION}(folder, device, threads)")
        return load(path.parent, device, threads)
    except FactoryError:
        raise
    except (Exception, SystemExit) as error:  # the boundary to the file's code
        raise FactoryError(f"{path.name}: {type(error).__name__}: {error}") from error


def _run(path: Path, source: bytes) -> ModuleType:
    """Runs the file as a module that nothing imports, without leaving compiled files behind."""
    module = ModuleType(f"fomofeed_model_{sha256(source).hexdigest()[:16]}")
    module.__file__ = str(path)
    sys.modules[module.__name__] = module  # dataclasses look their module up there
    exec(compile(source, str(path), "exec"), vars(module))
    return module
