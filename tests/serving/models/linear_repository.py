"""A repository of one model, `y = scale * x + 1`, and what is asked of it."""

import asyncio
import hashlib
from collections.abc import Mapping
from pathlib import Path

import numpy as np

from serving.models.repository import Repository
from tests.serving.tiny_models import write_linear


def put(root: Path, version: str, scale: float = 1.0, name: str = "linear") -> Path:
    """Puts `y = scale * x + 1` into a repository."""
    folder = root / name / version
    folder.mkdir(parents=True, exist_ok=True)
    return write_linear(folder / "model.onnx", scale=scale)


def configure(root: Path, text: str, name: str = "linear") -> None:
    (root / name / "model.yaml").write_text(text)


def promise(path: Path, digest: str | None = None) -> None:
    """Writes the file that `sha256sum model.onnx > model.onnx.sha256` would."""
    digest = digest or hashlib.sha256(path.read_bytes()).hexdigest()
    path.with_name(f"{path.name}.sha256").write_text(f"{digest}  {path.name}\n")


def flip_a_byte(path: Path) -> None:
    content = bytearray(path.read_bytes())
    content[len(content) // 2] ^= 1
    path.write_bytes(content)


async def scale_of(repository: Repository, version: str = "") -> float:
    """Asks the model for its factor."""
    with repository.find("linear", version) as served:
        answer = await served.model.infer({"x": np.ones((1, 3), np.float32)})
        return float(answer["y"][0, 0]) - 1


async def index_of(repository: Repository) -> Mapping[tuple[str, str], tuple[str, str]]:
    lines = await repository.index()
    return {(line.name, line.version): (line.state, line.reason) for line in lines}


class Observer:
    """Remembers what it was last told of each name."""

    def __init__(self) -> None:
        self.serves: dict[str, bool] = {}
        self.told_of_an_end = asyncio.Event()

    async def __call__(self, name: str, serves: bool) -> None:
        self.serves[name] = serves
        if not serves:
            self.told_of_an_end.set()
