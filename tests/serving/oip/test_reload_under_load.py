"""`fomofeed serve` while its models come and go under load: the law of the reload, in a process."""

import asyncio
from collections import Counter, defaultdict
from pathlib import Path
from typing import Any

import grpc
import pytest

from inference import grpc_service_pb2 as pb
from inference import grpc_service_pb2_grpc as pb_grpc
from serving.rpc.channels import open_channel
from tests.serving.oip.requests import typed
from tests.serving.oip.serve_process import serve
from tests.serving.tiny_models import write_linear

RELOADS, SETTLED = 60, 20  # memory and threads are compared from the 20th on
CALLERS, DEADLINE_S = 12, 5.0
MAX_GROWTH_KIB = 8 * 1024  # 40 reloads that each kept its model would keep 40 threads and arenas
KINDS = ("linear", "steady", "spare")


def put(root: Path, name: str, version: int) -> None:
    """Publishes a version that multiplies with its own number."""
    folder = root / name / str(version)
    folder.mkdir(parents=True)
    write_linear(folder / "model.onnx", scale=float(version))


def held(pid: int) -> tuple[int, int]:
    """Returns resident memory in KiB and threads of a process."""
    lines = dict(
        line.split(":", 1) for line in Path(f"/proc/{pid}/status").read_text().splitlines()
    )
    return int(lines["VmRSS"].split()[0]), int(lines["Threads"])


class Callers:
    """Calls that go on: answers and refusals are counted, versions once met are told."""

    def __init__(self, stub: Any) -> None:
        self._stub = stub
        self.answers, self.refused = Counter[tuple[str, str]](), Counter[tuple[str, str]]()
        self.met = defaultdict[tuple[str, int], asyncio.Event](asyncio.Event)
        self.is_over = False

    async def ask(self, name: str) -> None:
        x = typed("x", "FP32", [1, 3], [1, 1, 1])
        newest = 0
        while not self.is_over:
            request = pb.ModelInferRequest(model_name=name, inputs=[x])
            try:
                answer = await self._stub.ModelInfer(request, timeout=DEADLINE_S)
            except grpc.aio.AioRpcError as error:
                self.refused[name, f"{error.code().name}: {error.details()}"] += 1
                continue
            version = int(answer.model_version)
            assert answer.outputs[0].contents.fp32_contents[:] == [version + 1] * 3
            assert version >= newest, "a caller was sent back to an older version"
            newest = version
            self.answers[name, answer.model_version] += 1
            self.met[name, version].set()


@pytest.mark.prove
async def test_sixty_reloads_under_load_fail_no_call_mix_no_answer_and_leave_nothing_behind(
    tmp_path: Path,
) -> None:
    for name in KINDS:
        put(tmp_path, name, 1)
    async with (
        serve(tmp_path) as served,
        open_channel(served.target, health_service=None) as channel,
    ):
        stub: Any = pb_grpc.GRPCInferenceServiceStub(channel)
        callers, before = Callers(stub), (0, 0)
        async with asyncio.TaskGroup() as group:
            for number in range(CALLERS):
                group.create_task(callers.ask(KINDS[number % len(KINDS)]))
            for version in range(2, RELOADS + 2):
                put(tmp_path, "linear", version)
                spare = pb.RepositoryModelUnloadRequest(model_name="spare")
                await stub.RepositoryModelUnload(spare)
                await stub.RepositoryModelLoad(pb.RepositoryModelLoadRequest(model_name="linear"))
                await stub.RepositoryModelLoad(pb.RepositoryModelLoadRequest(model_name="spare"))
                await callers.met["linear", version].wait()
                if version == SETTLED:
                    before = held(served.process.pid)
            after = held(served.process.pid)
            callers.is_over = True
        index = await stub.RepositoryIndex(pb.RepositoryIndexRequest())
        assert await served.stop() == 0
    assert {name for name, _ in callers.refused} <= {"spare"}  # and that one only while unloaded
    assert {why for _, why in callers.refused} <= {
        f"UNAVAILABLE: server is {state} spare" for state in ("unloading", "not serving", "loading")
    }
    assert callers.answers["steady", "1"] > RELOADS
    assert [(m.name, m.version, m.state) for m in index.models] == [
        ("linear", str(RELOADS + 1), "READY"),
        ("spare", "1", "READY"),
        ("steady", "1", "READY"),
    ]
    assert after[0] - before[0] < MAX_GROWTH_KIB
    assert after[1] <= before[1] + 1
