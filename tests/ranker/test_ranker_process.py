"""From a file of own posts to the answers of a running server, by what a user types."""

import asyncio
import re
import shutil
import sys
from collections import Counter
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest

from cluster.renew import Told, renew
from fomofeed.ranker.v1 import ranker_service_pb2 as pb
from fomofeed.ranker.v1 import ranker_service_pb2_grpc as pb_grpc
from serving.models.build import build
from serving.rpc.channels import open_channel
from simulation.audience import Family
from tests.serving.training.own_events import write_own_events

ROOT = Path(__file__).parents[2]
LISTENING = re.compile(rb"listening on (127\.0\.0\.1:\d+)")


@asynccontextmanager
async def ranker_process(models: Path) -> AsyncIterator[str]:
    """Runs `python -m services.ranker` on a free port; gives its address."""
    settings = {"PORT": "0", "METRICS_PORT": "0", "MODEL_REPOSITORY": str(models)}
    process = await asyncio.create_subprocess_exec(
        *(sys.executable, "-m", "services.ranker"),
        stderr=asyncio.subprocess.PIPE,
        cwd=ROOT,
        env={"PATH": "/usr/bin:/bin"} | {f"FOMOFEED_RANKER_{k}": v for k, v in settings.items()},
    )
    assert process.stderr
    try:
        said = b""
        while b"ranker is serving" not in said:
            line = await process.stderr.readline()
            assert line, f"it did not start: {said.decode()}"
            said += line
        address = LISTENING.search(said)
        assert address
        yield address[1].decode()
    finally:
        process.terminate()
        _, rest = await process.communicate()
    assert process.returncode == 0, rest.decode()


async def fomofeed(*arguments: str) -> tuple[int, str]:
    """Runs the command; returns its exit code and what it said."""
    process = await asyncio.create_subprocess_exec(
        *(sys.executable, "-m", "cluster", *arguments),
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.STDOUT,
        cwd=ROOT,
    )
    output, _ = await process.communicate()
    return process.returncode or 0, output.decode()


@pytest.mark.prove
async def test_a_server_under_load_takes_up_what_was_trained_beside_it_and_goes_back(
    tmp_path: Path,
) -> None:
    models = tmp_path / "models"
    build(ROOT / "services/ranker/manifests/feed-ranker.yaml", models, tmp_path / "packages", {})
    events = write_own_events(tmp_path / "own.csv", 60, 40, Family.B, seed=6)
    answers, is_over = Counter[str](), False

    async def ask(stub: Any) -> None:
        while not is_over:
            request = pb.ScorePostRequest(quality_score=7.0)
            answer = await stub.ScorePost(request, wait_for_ready=True, timeout=20)
            answers[answer.model.version] += 1

    async def reload(target: str) -> Told:
        (told,) = [told async for told in renew({"ranker": target})]
        return told

    async with (
        ranker_process(models) as target,
        open_channel(target, health_service=None) as channel,
        asyncio.TaskGroup() as group,
    ):
        stub: Any = pb_grpc.RankerServiceStub(channel)
        for _ in range(8):
            group.create_task(ask(stub))
        files = ("--events", str(events), "--repository", str(models))
        code, said = await fomofeed("train", "ranker", *files)
        assert code == 0, said
        assert await reload(target) == Told("ranker", "feed-ranker 2, was 1")
        assert (await stub.ScorePost(pb.ScorePostRequest())).model.version == "2"
        shutil.rmtree(models / "feed-ranker" / "2")
        assert await reload(target) == Told("ranker", "feed-ranker 1, was 2")
        assert (await stub.ScorePost(pb.ScorePostRequest())).model.version == "1"
        is_over = True
    assert set(answers) == {"1", "2"}
    assert answers["1"] > 100
