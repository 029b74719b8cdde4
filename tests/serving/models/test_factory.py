"""Python files that make engines: run only when the operator allows it."""

import asyncio
from pathlib import Path

import numpy as np
import pytest

from serving.engines.factory import FactoryError, call_factory
from serving.models.repository import Repository
from tests.serving.models.linear_repository import index_of
from tests.serving.oip.serve_process import serve

ENGINE = """
import dataclasses
import numpy as np
from serving.engines.engine import TensorSpec

@dataclasses.dataclass
class Scaled:
    scale: "float"
    inputs = (TensorSpec("x", np.dtype(np.float32), (-1, 2)),)
    outputs = (TensorSpec("y", np.dtype(np.float32), (-1, 2)),)

    def infer(self, inputs):
        return {"y": inputs["x"] * np.float32(self.scale)}

def load(folder, device, threads):
    return Scaled(float((folder / "scale.txt").read_text()))
"""


def put(root: Path, code: str = ENGINE, scale: str = "3") -> Path:
    folder = root / "scaled" / "1"
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "scale.txt").write_text(scale)
    (folder / "model.py").write_text(code)
    return folder


async def answer(repository: Repository) -> float:
    with repository.find("scaled") as served:
        return float((await served.model.infer({"x": np.ones((1, 2), np.float32)}))["y"][0, 0])


async def test_code_is_not_run_unless_the_operator_allows_it(tmp_path: Path) -> None:
    put(tmp_path, f"open({str(tmp_path / 'ran')!r}, 'w')")
    async with Repository(tmp_path) as repository:
        state, reason = (await index_of(repository))["scaled", "1"]
    assert (state, reason.split(":")[0]) == ("UNAVAILABLE", "model.py is code")
    assert not (tmp_path / "ran").exists()


async def test_an_engine_of_a_factory_is_served_and_batched(tmp_path: Path) -> None:
    put(tmp_path)
    async with Repository(tmp_path, allows_code=True) as repository:
        assert repository.find("scaled").model.is_batched
        assert await asyncio.gather(*(answer(repository) for _ in range(5))) == [3.0] * 5


async def test_the_digest_covers_the_files_beside_the_factory(tmp_path: Path) -> None:
    put(tmp_path)
    async with Repository(tmp_path, allows_code=True) as repository:
        digest = repository.find("scaled").digest
        put(tmp_path, scale="4")
        await repository.load("scaled")
        assert await answer(repository) == 4
        assert repository.find("scaled").digest != digest
        assert len(digest) == 64


@pytest.mark.parametrize(
    ("code", "reason"),
    [
        ("1 / 0", "model.py: ZeroDivisionError: division by zero"),
        ("import sys; sys.exit(3)", "model.py: SystemExit: 3"),
        ("load = 1", "model.py has no function load"),
        ("def load(:", "model.py: SyntaxError: invalid syntax"),
    ],
)
def test_what_is_wrong_with_a_factory_is_told(tmp_path: Path, code: str, reason: str) -> None:
    path = put(tmp_path, code) / "model.py"
    with pytest.raises(FactoryError, match=reason):
        call_factory(path, "cpu", 1)


async def test_what_is_no_engine_is_refused(tmp_path: Path) -> None:
    put(tmp_path, "def load(folder, device, threads): return 7")
    async with Repository(tmp_path, allows_code=True) as repository:
        _, reason = (await index_of(repository))["scaled", "1"]
    assert reason.startswith("model.py: load returned a int, expected an engine")


async def test_the_command_line_allows_code(tmp_path: Path) -> None:
    put(tmp_path)
    async with serve(tmp_path, FOMOFEED_SERVE_ALLOW_CODE="true") as served:
        assert served.target
        assert await served.stop() == 0
