"""Callers who leave, at any moment and in any number: nothing stays behind, and soon."""

import asyncio
import time
from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from random import Random
from statistics import median
from typing import Any

import grpc
import pytest

from fomofeed.ranker.v1 import ranker_service_pb2 as ranker_pb
from fomofeed.ranker.v1 import ranker_service_pb2_grpc as ranker_grpc
from services.gateway.__main__ import load_plans
from services.gateway.calling import Policies, open_calls
from services.gateway.channels import open_channels
from services.gateway.config import GatewayConfig
from services.gateway.outcome import Call, Outcome, failed
from serving.errors import ServingError, to_status
from serving.request import current
from serving.scheduling.batcher import Batcher
from serving.scheduling.scheduler import BatchingConfig
from tests.conftest import running
from tests.fakes import FakeEngine
from tests.gateway.conftest import Analyze
from tests.gateway.fake_nodes import rank

REQUIRED = """\
name: busy
request: fomofeed.gateway.v1.OrchestrateRequest
response: fomofeed.gateway.v1.OrchestrateResponse
default_timeout_ms: 200
nodes:
  ranker:
    call: fomofeed.ranker.v1.RankerService/ScorePost
    fields: {user_id: request.user_id}
    timeout_ms: 30000
    expected_ms: 20
"""
RESULT = """\
result:
  engagement_score: ranker.engagement_score
"""
RANKER = "fomofeed.ranker.v1.RankerService"
SETTLED_S = 10.0  # a machine that does other things too


async def at_rest(tasks: int) -> None:
    """Returns when no more than `tasks` tasks are left; fails when they stay."""
    async with asyncio.timeout(SETTLED_S):
        while len(asyncio.all_tasks()) > tasks:  # noqa: ASYNC110 # nobody tells of the end of tasks
            await asyncio.sleep(0)


async def leave_at_random(analyze: Analyze, count: int) -> None:
    """Asks `count` times, 25 at once, and leaves each time at some moment before the end."""
    random = Random(4)
    for fake in vars(analyze.fakes).values():
        fake.delay_s = 0.005

    async def visit(number: int) -> None:
        asking = asyncio.ensure_future(analyze.ask(user_id=number % 40 + 1, moderate=True))
        await asyncio.wait([asking], timeout=random.uniform(0, 0.06))
        asking.cancel()
        await asyncio.wait([asking])

    for first in range(1, count + 1, 25):
        await asyncio.gather(*(visit(number) for number in range(first, first + 25)))


async def nothing_stays(analyze: Analyze, count: int) -> None:
    await analyze.ask(moderate=True)
    before = len(asyncio.all_tasks())
    await leave_at_random(analyze, count)
    await at_rest(before)
    for fake in vars(analyze.fakes).values():
        fake.delay_s = 0.0
    response = await analyze.ask(moderate=True)
    assert not response.degraded  # no place and no batch slot is missing
    await at_rest(before)


async def test_two_hundred_random_cancels_leave_nothing(analyze: Analyze) -> None:
    await nothing_stays(analyze, 200)


@pytest.mark.prove
async def test_a_thousand_random_cancels_leave_nothing(analyze: Analyze) -> None:
    await nothing_stays(analyze, 1000)


async def test_a_cancel_reaches_the_leaf_within_50_ms(analyze: Analyze) -> None:
    leaf, seconds = analyze.fakes.clip, []
    leaf.delay_s = 60
    for _ in range(9):
        leaf.started.clear()
        leaf.cancelled.clear()
        asking = asyncio.ensure_future(analyze.ask())
        await leaf.started.wait()
        began = time.perf_counter()
        asking.cancel()
        await asyncio.wait_for(leaf.cancelled.wait(), SETTLED_S)
        seconds.append(time.perf_counter() - began)
    assert median(seconds) < 0.050


class BusyRanker(ranker_grpc.RankerServiceServicer):
    """A ranker that executes 200 posts a second, in batches, and remembers when it did.

    `left_s` holds what was left of the server's deadline as each execution began.
    """

    def __init__(self) -> None:
        self.left_s: list[float] = []
        self._engine = FakeEngine(seconds_per_item=0.005)
        self.batcher: Batcher[float, float] = Batcher([self._infer], BatchingConfig())

    async def ScorePost(self, request: Any, context: Any) -> ranker_pb.ScorePostResponse:
        await self._execute()
        return rank(request)

    async def BatchScorePosts(self, request: Any, context: Any) -> Any:
        outcomes = await asyncio.gather(*(self._result(one) for one in request.requests))
        return ranker_pb.BatchScorePostsResponse(results=outcomes)

    async def _result(self, request: ranker_pb.ScorePostRequest) -> ranker_pb.ScorePostResult:
        try:
            await self._execute()
        except ServingError as error:
            return ranker_pb.ScorePostResult(error=to_status(error))
        return ranker_pb.ScorePostResult(response=rank(request))

    async def _execute(self) -> None:
        deadline = current().deadline
        await self.batcher.submit(deadline, deadline=deadline)

    async def _infer(self, deadlines: list[float]) -> Sequence[float]:
        now = asyncio.get_running_loop().time()
        self.left_s.extend(deadline - now for deadline in deadlines)
        return await self._engine.infer(deadlines)


@pytest.mark.parametrize("batch", ["", "BatchScorePosts"])
async def test_under_three_times_the_load_nothing_is_executed_after_its_deadline(
    tmp_path: Path, batch: str
) -> None:
    graph = REQUIRED + (f"    idempotent: true\n    batch: {batch}\n" if batch else "")
    (tmp_path / "busy.yaml").write_text(graph + RESULT)
    plans = load_plans(GatewayConfig(graphs=tmp_path))
    ranker = BusyRanker()
    mount = (ranker_grpc.add_RankerServiceServicer_to_server, ranker)
    async with (
        ranker.batcher,
        running([mount], [RANKER]) as server,
        open_channels(GatewayConfig(ranker=server.target), [RANKER]) as channels,
        open_calls(plans, channels, Policies()) as calls,
    ):
        outcomes = await offer(calls["busy"]["ranker"], rate=600, seconds=1.0)
    codes = Counter(outcome.code for outcome in outcomes)
    assert min(ranker.left_s) > 0
    assert codes[grpc.StatusCode.OK] > 0  # how many, test_gateway_overload.py says: without a clock
    assert codes[grpc.StatusCode.OK] < len(outcomes)  # it was too much
    assert set(codes) <= {
        grpc.StatusCode.OK,
        grpc.StatusCode.RESOURCE_EXHAUSTED,
        grpc.StatusCode.DEADLINE_EXCEEDED,
        grpc.StatusCode.UNAVAILABLE,
    }


async def offer(call: Call, rate: float, seconds: float) -> list[Outcome]:
    """Calls `rate` times a second whatever comes back, each call with 200 ms."""
    loop = asyncio.get_running_loop()
    start, tasks = loop.time(), []
    while (now := loop.time()) < start + seconds:
        while len(tasks) < (now - start) * rate:
            post = ranker_pb.ScorePostRequest(user_id=len(tasks) + 1)
            tasks.append(asyncio.create_task(_within(call, post, now + 0.2)))
        await asyncio.sleep(0)
    return list(await asyncio.gather(*tasks))


async def _within(call: Call, post: ranker_pb.ScorePostRequest, deadline: float) -> Outcome:
    try:
        async with asyncio.timeout_at(deadline):
            return await call(post, deadline)
    except TimeoutError:
        return failed(grpc.StatusCode.DEADLINE_EXCEEDED, "left")
