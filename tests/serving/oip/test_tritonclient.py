"""Triton's own client, unchanged, against our server. It needs an older protobuf than ours."""

import asyncio
import shutil
import subprocess
import venv
from pathlib import Path

import pytest

from serving.models.repository import Repository
from tests.serving.oip.conftest import ServeModels
from tests.serving.tiny_models import write_linear, write_text

_ROOT = Path(__file__).parents[3]
_VENV = _ROOT / ".fomofeed" / "venvs" / "tritonclient"
_PINS = _ROOT / "requirements" / "tritonclient.txt"


@pytest.fixture(scope="session")
def tritonclient() -> Path:
    """The interpreter of an environment that holds the pinned client; made once, kept."""
    interpreter, stamp = _VENV / "bin" / "python", _VENV / "pins.txt"
    if stamp.is_file() and stamp.read_bytes() == _PINS.read_bytes():
        return interpreter
    shutil.rmtree(_VENV, ignore_errors=True)
    venv.create(_VENV, with_pip=True)
    pip = [interpreter, "-m", "pip", "install", "--quiet", "--require-hashes", "-r", _PINS]
    result = subprocess.run(pip, check=False, capture_output=True, text=True, timeout=600)
    if result.returncode:
        pytest.skip(f"tritonclient cannot be installed here: {result.stderr.strip()[-300:]}")
    shutil.copyfile(_PINS, stamp)
    return interpreter


@pytest.mark.prove  # making the environment takes half a minute
async def test_tritonclient_works_unchanged(
    tritonclient: Path, oip_on: ServeModels, tmp_path: Path
) -> None:
    for name, write in (("linear", write_linear), ("text", write_text)):
        (tmp_path / name / "1").mkdir(parents=True)
        write(tmp_path / name / "1" / "model.onnx")
    served = await oip_on(Repository(tmp_path))
    process = await asyncio.create_subprocess_exec(
        *(tritonclient, Path(__file__).with_name("triton_user.py"), served.target),
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.STDOUT,
    )
    output, _ = await process.communicate()
    assert process.returncode == 0, output.decode()
    assert output.decode().count("done") == 5
