"""The protocol through grpcurl: reflection, JSON both ways, errors that people read."""

import asyncio
import json
import sys
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest

from serving.models.repository import Repository
from tests.serving.oip.conftest import Running, ServeModels
from tests.serving.tiny_models import write_linear

_GRPCURL = Path(sys.executable).parent / "grpcurl"
_SERVICE = "inference.GRPCInferenceService"


@pytest.fixture
async def served(oip_on: ServeModels, tmp_path: Path) -> AsyncIterator[Running]:
    (tmp_path / "linear" / "1").mkdir(parents=True)
    write_linear(tmp_path / "linear" / "1" / "model.onnx")
    yield await oip_on(Repository(tmp_path))


async def grpcurl(*arguments: str) -> tuple[int, str]:
    process = await asyncio.create_subprocess_exec(
        *(_GRPCURL, "-plaintext", *arguments),
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.STDOUT,
    )
    output, _ = await process.communicate()
    assert process.returncode is not None
    return process.returncode, output.decode()


async def ask(target: str, method: str, request: Any) -> tuple[int, str]:
    return await grpcurl("-d", json.dumps(request), target, f"{_SERVICE}/{method}")


async def test_the_service_is_listed_and_described_without_any_file(served: Running) -> None:
    code, output = await grpcurl(served.target, "list")
    assert (code, _SERVICE in output.split()) == (0, True)
    code, output = await grpcurl(served.target, "describe", _SERVICE)
    assert code == 0
    assert "rpc ModelInfer ( .inference.ModelInferRequest )" in output


async def test_typed_and_raw_contents_are_answered(served: Running) -> None:
    tensor = {"name": "x", "datatype": "FP32", "shape": [1, 3]}
    typed = {**tensor, "contents": {"fp32_contents": [1, 2, 3]}}
    code, output = await ask(
        served.target, "ModelInfer", {"model_name": "linear", "id": "7", "inputs": [typed]}
    )
    answer = json.loads(output)
    assert (code, answer["id"], answer["model_version"]) == (0, "7", "1")
    assert answer["outputs"][0]["contents"]["fp32_contents"] == [3, 5, 7]
    raw = "AACAPwAAAEAAAEBA"  # 1, 2, 3
    code, output = await ask(
        served.target,
        "ModelInfer",
        {"model_name": "linear", "inputs": [tensor], "raw_input_contents": [raw]},
    )
    assert (code, json.loads(output)["raw_output_contents"]) == (0, ["AABAQAAAoEAAAOBA"])


async def test_a_mistake_is_told_in_words_and_details(served: Running) -> None:
    code, output = await ask(served.target, "ModelInfer", {"model_name": "linear"})
    assert code == 64 + 3  # INVALID_ARGUMENT
    assert "inputs is empty, model linear takes x FP32 [-1, 3]" in output
    assert "google.rpc.BadRequest" in output


async def test_models_are_listed_unloaded_and_loaded(served: Running) -> None:
    async def state() -> str:
        _, output = await ask(served.target, "RepositoryIndex", {})
        return str(json.loads(output)["models"][0]["state"])

    assert await state() == "READY"
    name = {"model_name": "linear"}
    assert (await ask(served.target, "RepositoryModelUnload", name))[0] == 0
    assert await state() == "UNAVAILABLE"
    code, output = await ask(served.target, "ServerReady", {})
    assert (code, json.loads(output)) == (0, {"ready": True})
    assert (await ask(served.target, "RepositoryModelLoad", name))[0] == 0
    assert await state() == "READY"
