import asyncio
import sys
from pathlib import Path
from typing import Any

import grpc

from inference import grpc_service_pb2 as pb
from inference import grpc_service_pb2_grpc as pb_grpc
from serving.oip.__main__ import environment
from serving.rpc.channels import open_channel
from tests.serving.oip.requests import typed
from tests.serving.oip.serve_process import serve
from tests.serving.tiny_models import write_linear


def repository(root: Path) -> Path:
    (root / "linear" / "1").mkdir(parents=True)
    write_linear(root / "linear" / "1" / "model.onnx")
    return root


async def run(*command: str) -> tuple[int, str]:
    """Returns exit code and output, both streams together."""
    process = await asyncio.create_subprocess_exec(
        *command, stdout=asyncio.subprocess.PIPE, stderr=asyncio.subprocess.STDOUT
    )
    output, _ = await process.communicate()
    assert process.returncode is not None
    return process.returncode, output.decode()


def fomofeed(*arguments: str) -> tuple[str, ...]:
    return (sys.executable, "-m", "cluster", *arguments)


async def test_a_served_folder_passes_the_checklist_and_ends_cleanly(tmp_path: Path) -> None:
    async with serve(repository(tmp_path)) as served:
        code, output = await run(*fomofeed("conformance", served.target))
        assert (code, "0 MUST fail, 0 SHOULD fail" in output) == (0, True), output
        assert await served.stop() == 0


async def test_sigterm_under_load_loses_no_accepted_call(tmp_path: Path) -> None:
    answers, refusals = list[Any](), set[grpc.StatusCode]()

    async def ask(stub: Any) -> None:
        request = pb.ModelInferRequest(
            model_name="linear", inputs=[typed("x", "FP32", [1, 3], [1, 2, 3])]
        )
        while not refusals:
            try:
                answers.append(await stub.ModelInfer(request))
            except grpc.aio.AioRpcError as error:
                refusals.add(error.code())

    async with (
        serve(repository(tmp_path)) as served,
        open_channel(served.target, health_service=None) as channel,
    ):
        await channel.channel_ready()
        stub = pb_grpc.GRPCInferenceServiceStub(channel)
        async with asyncio.TaskGroup() as group:
            tasks = [group.create_task(ask(stub)) for _ in range(8)]
            while len(answers) < 100:
                done, _ = await asyncio.wait(tasks, timeout=0.01)
                assert not done
            code = await served.stop()
    assert code == 0
    assert refusals == {grpc.StatusCode.UNAVAILABLE}
    assert all(answer.outputs[0].contents.fp32_contents[:] == [3, 5, 7] for answer in answers)


async def test_a_missing_folder_or_an_unknown_setting_is_told_in_a_line(tmp_path: Path) -> None:
    code, output = await run(*fomofeed("serve", "--model-repository", str(tmp_path / "none")))
    assert (code, "no model repository" in output, "Traceback" in output) == (1, True, False)
    code, output = await run(*fomofeed("conformance"))
    assert (code, "usage: fomofeed conformance" in output) == (2, True)


def test_the_command_line_goes_before_the_variables() -> None:
    given = {"FOMOFEED_SERVE_PORT": "1", "FOMOFEED_SERVE_HOST": "::1", "HOME": "/"}
    found = environment(["--port", "7", "--model-repository", "dir"], given)
    assert found == {
        "FOMOFEED_SERVE_PORT": "7",
        "FOMOFEED_SERVE_HOST": "::1",
        "FOMOFEED_SERVE_METRICS_PORT": "8002",
        "FOMOFEED_SERVE_MODEL_REPOSITORY": "dir",
        "HOME": "/",
    }
