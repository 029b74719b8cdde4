"""`fomofeed serve` answers whatever is sent to it, does not grow, and serves on."""

import asyncio
import random
from pathlib import Path

import pytest

from cluster.health import ask
from inference import grpc_service_pb2 as pb
from inference import grpc_service_pb2_grpc as pb_grpc
from serving.rpc.channels import open_channel
from tests.fuzz.broken_http2 import BEHAVIOURS
from tests.fuzz.calling import Report, fuzz
from tests.fuzz.observing import resident_bytes
from tests.serving.oip.requests import typed
from tests.serving.oip.serve_process import Served, serve
from tests.serving.tiny_models import write_linear, write_text

MIB = 1 << 20


def repository(root: Path) -> Path:
    for name, write in (("linear", write_linear), ("text", write_text)):
        (root / name / "1").mkdir(parents=True)
        write(root / name / "1" / "model.onnx")
    return root


async def check_right(served: Served) -> None:
    """It is the process that it was, and answers rightly."""
    assert served.process.returncode is None
    async with open_channel(served.target, health_service=None) as channel:
        x = typed("x", "FP32", [1, 3], [1, 2, 3])
        request = pb.ModelInferRequest(model_name="linear", inputs=[x])
        answer = await pb_grpc.GRPCInferenceServiceStub(channel).ModelInfer(request, timeout=5)
    assert answer.outputs[0].contents.fp32_contents[:] == [3, 5, 7]


async def fuzzed(served: Served, count: int, seed: int) -> Report:
    report = await fuzz(served.target, [], count, seed, harmless=False)
    assert not report.findings, "\n".join(report.findings[:20])
    await check_right(served)
    return report


async def misbehave(served: Served, rounds: int) -> None:
    chance, (host, _, port) = random.Random(rounds), served.target.rpartition(":")
    for _ in range(rounds):
        behaviours = chance.sample(BEHAVIOURS, len(BEHAVIOURS))
        await asyncio.gather(*(behave(host, int(port), chance) for behave in behaviours))
    await until_probes_answer(served)
    await check_right(served)


async def until_probes_answer(served: Served) -> None:
    """A flood of calls fills the queue of probes, which is short, for as long as it takes.

    While it is half full gRPC refuses some calls by chance, so one answer is no sign of its end.
    """
    async with asyncio.timeout(20):
        answered = 0
        while answered < 20:
            answered = answered + 1 if await ask(served.target) == "SERVING" else 0


async def test_it_answers_fuzzed_requests_and_survives_broken_connections(tmp_path: Path) -> None:
    async with serve(repository(tmp_path)) as served:
        report = await fuzzed(served, 600, seed=1)
        await misbehave(served, 1)
        assert await served.stop() == 0
    assert len(served.log) < 4_096, served.log.decode()  # no caller fills the log
    assert min(report.codes["OK"], report.codes["INVALID_ARGUMENT"]) > 100


@pytest.mark.prove
async def test_a_hundred_thousand_requests_and_broken_connections_leave_it_small(
    tmp_path: Path,
) -> None:
    async with serve(repository(tmp_path)) as served:
        await fuzzed(served, 4_000, seed=2)
        await misbehave(served, 3)
        before = resident_bytes(served.process.pid)
        report = await fuzzed(served, 100_000, seed=3)
        await misbehave(served, 30)
        grown = (resident_bytes(served.process.pid) - before) / MIB
        print("serve:", dict(report.codes), f"grown {grown:.1f} MiB")
        assert grown < 24
        assert await served.stop() == 0
