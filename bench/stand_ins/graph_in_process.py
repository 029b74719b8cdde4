"""The Analyze graph with the gateway's own executor and the real models, all in this process.

Timing, ranker and every substitute are those that are shipped; profile and clip are the simulator.
"""

import asyncio
import tempfile
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime
from itertools import chain, combinations
from pathlib import Path
from typing import Any

import grpc
import numpy as np
from google.protobuf.message import Message
from numpy.typing import NDArray

from bench.stand_ins.simulated_posts import SimulatedPosts
from fomofeed.gateway.v1 import orchestrator_service_pb2 as pb
from services.gateway.__main__ import load_plans
from services.gateway.config import GatewayConfig
from services.gateway.convert import to_response
from services.gateway.executor import execute
from services.gateway.outcome import Call, Outcome, failed
from services.gateway.plan import Plan
from services.ranker.config import RankerConfig
from services.ranker.scorer import Scorer
from services.ranker.servicer import RankerServicer
from services.timing.advisor import Advisor
from services.timing.config import TimingConfig
from services.timing.servicer import TimingServicer

Array = NDArray[np.float64]
Company = tuple[str, ...]  # of nodes that are away

NODES = ("profile", "clip", "timing", "ranker")  # those that confidence is about
COMPANIES: Sequence[Company] = [*chain.from_iterable(combinations(NODES, n) for n in range(5))]
ALONE: Sequence[Company] = [(node,) for node in NODES]
WANTED = ("engagement_score", "confidence", "optimal_hour_of_week")
AT_ONCE = 32
PATIENCE_S = 60.0
NOW = datetime(2026, 11, 16, tzinfo=UTC)  # a Monday: the same figures whenever they are measured


@dataclass(frozen=True, slots=True)
class Answers:
    """What was told of each post without some nodes, and its chance of being right."""

    told: Array
    right: Array
    factor: float  # that the substitutions have lowered `told` by

    @property
    def gap(self) -> float:
        return float(self.told.mean() - self.right.mean())


@dataclass(slots=True)
class Asked:
    """A servicer's method as a node; the same request is computed once."""

    method: Callable[..., Awaitable[Any]]
    known: dict[bytes, asyncio.Future[Outcome]] = field(default_factory=dict)

    async def __call__(self, request: Message, deadline: float) -> Outcome:
        key = request.SerializeToString(deterministic=True)
        if key not in self.known:
            self.known[key] = asyncio.ensure_future(self._ask(request))
        return await self.known[key]

    async def _ask(self, request: Message) -> Outcome:
        return Outcome(await self.method(request, None))


@dataclass(frozen=True, slots=True)
class Graph:
    """The gateway's plan with its models."""

    plan: Plan
    models: Mapping[str, Call]

    async def ask(self, posts: SimulatedPosts, count: int, away: Company) -> Answers:
        """Asks about the first `count` posts without the nodes of `away`."""
        room = asyncio.Semaphore(AT_ONCE)

        async def one(index: int) -> pb.OrchestrateResponse:
            async with room:
                return await self._answer(posts, index, away)

        found = await asyncio.gather(*(one(index) for index in range(count)))
        hours = np.array([answer.optimal_hour_of_week for answer in found])
        scores = np.array([answer.engagement_score for answer in found])
        told = np.array([answer.confidence for answer in found])
        factor = np.prod([one.confidence_factor for one in found[0].degradations])
        return Answers(told, posts.chance_of_right(scores, hours), float(factor))

    async def _answer(
        self, posts: SimulatedPosts, index: int, away: Company
    ) -> pb.OrchestrateResponse:
        selection = self.plan.select(WANTED)
        nodes = {
            "profile": _knows(posts.profile(index)),
            "clip": _knows(posts.image(index)),
            **self.models,
            **dict.fromkeys(away, _away),
        }
        deadline = asyncio.get_running_loop().time() + PATIENCE_S
        execution = await execute(self.plan, selection, nodes, posts.request(index), deadline)
        return to_response(self.plan, selection, execution, deadline, explain=False)


@asynccontextmanager
async def open_graph() -> AsyncIterator[Graph]:
    """Opens the graph that is shipped, with the tables of the source tree."""
    with tempfile.TemporaryDirectory() as folder:
        config = TimingConfig(database=Path(folder) / "timing.sqlite")
        async with Advisor(config) as advisor, Scorer(RankerConfig()) as scorer:
            timing = TimingServicer(advisor, clock=lambda: NOW)
            ranker = RankerServicer(scorer, {})
            models = {
                "timing": Asked(timing.SuggestPostingTimes),
                "ranker": Asked(ranker.ScorePost),
            }
            yield Graph(load_plans(GatewayConfig())["analyze"], models)


def _knows(answer: Message) -> Call:
    async def call(request: Message, deadline: float) -> Outcome:
        return Outcome(answer)

    return call


async def _away(request: Message, deadline: float) -> Outcome:
    return failed(grpc.StatusCode.UNAVAILABLE, "away")
