"""The analyze graph on the virtual clock: real plan, executor and policies before sleeping models.

A node is the batcher of the servers with an engine that only sleeps, behind a wire that takes half
a millisecond each way. What saturates is known exactly, and no processor has a part in it.
"""

import asyncio
from collections import Counter
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping, Sequence
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass, field
from typing import TypeVar

import numpy as np
from google.protobuf.message import Message

from bench.stand_ins.null_models import ANSWERS
from services.gateway.calling import Policies, open_calls
from services.gateway.channels import Channels, ServiceChannel
from services.gateway.executor import execute
from services.gateway.outcome import Call, Outcome, failed
from services.gateway.plan import NodePlan, Plan
from serving.errors import ServingError
from serving.request import CallFacts, Criticality, current, enter
from serving.scheduling.batcher import Batcher
from serving.scheduling.scheduler import BatchingConfig
from tests.gateway.conftest import a_post
from tests.virtual_time import now

Result = TypeVar("Result")

WIRE_S = 0.0005  # one way
DEADLINE_S = 0.5


@dataclass(eq=False)
class _Row:
    """One request at a leaf. `began` once an engine call holds it."""

    deadline: float
    began: bool = False


@dataclass
class SleepingNode:
    """A model server whose engine call takes `batch_s`, however many rows of at most `most`."""

    name: str
    batch_s: float
    most: int
    executed: int = 0
    late: int = 0  # began after the deadline
    for_nobody: int = 0  # the caller had gone before the answer
    ends: list[float] = field(default_factory=list)

    def __post_init__(self) -> None:
        config = BatchingConfig(max_batch_rows=self.most)
        self.batcher: Batcher[_Row, None] = Batcher([self._infer], config, f"sleeping_{self.name}")

    @property
    def peak(self) -> float:
        """Rows a second."""
        return self.most / self.batch_s

    async def __call__(self, request: Message, deadline: float) -> Outcome:
        row, facts = _Row(deadline), current()
        try:
            await asyncio.sleep(WIRE_S)
            await self.batcher.submit(row, deadline=deadline, criticality=facts.criticality)
            await asyncio.sleep(WIRE_S)
        except ServingError as error:
            await asyncio.sleep(WIRE_S)
            return failed(error.code, str(error), retry_after_s=error.retry_after_s)
        except asyncio.CancelledError:
            self.for_nobody += row.began
            raise
        return Outcome(ANSWERS[self.name])

    async def _infer(self, rows: list[_Row]) -> Sequence[None]:
        for row in rows:
            row.began = True
            self.late += now() > row.deadline
        self.executed += len(rows)
        await asyncio.sleep(self.batch_s)
        return [None] * len(rows)


@dataclass
class Sleeping:
    """The nodes, and what became of those who asked."""

    plan: Plan
    nodes: Mapping[str, SleepingNode]
    calls: Mapping[str, Call]
    counts: Counter[tuple[Criticality, str]] = field(default_factory=Counter)
    lost: Counter[tuple[str, str]] = field(default_factory=Counter)
    whole_at: list[float] = field(default_factory=list)  # when whole answers came
    counted_from: float = 0.0  # who came before is not in `counts` and `lost`

    async def ask(self, number: int, criticality: Criticality) -> None:
        """Asks about a post that nobody has asked about, with `DEADLINE_S`."""
        is_counted = now() >= self.counted_from
        selection = self.plan.select(())
        media = number.to_bytes(4, "big")
        post = a_post(user_id=number + 1, caption=f"post {number}", media=media)
        done = await given(
            lambda deadline: execute(self.plan, selection, self.calls, post, deadline),
            criticality,
            DEADLINE_S,
        )
        if done is None:
            self.counts[criticality, "FAILED"] += is_counted
            return
        lost = [run.degradation for run in done.runs.values() if run.degradation]
        if is_counted:
            self.lost.update((one.node, one.reason) for one in lost)
            self.counts[criticality, "DEGRADED" if lost else "WHOLE"] += 1
        if not lost:
            self.whole_at.append(now())

    def good_rate(self, begin: float, end: float) -> float:
        """Whole answers a second between two times."""
        return sum(begin <= at < end for at in self.whole_at) / (end - begin)


async def given(
    call: Callable[[float], Awaitable[Result]], criticality: Criticality, left_s: float
) -> Result | None:
    """Makes a call as its server would, cut off at its deadline; None when it failed."""
    deadline = now() + left_s
    enter(CallFacts(deadline, criticality))
    try:
        async with asyncio.timeout_at(deadline):
            return await call(deadline)
    except (ServingError, TimeoutError):
        return None


async def arriving(
    rate: float,
    seconds: float,
    visit: Callable[[int, Criticality], Awaitable[None]],
    mix: Mapping[Criticality, float] | None = None,
) -> None:
    """Sends Poisson arrivals of a mix of classes; returns when all have ended."""
    rng = np.random.default_rng(7)
    classes, shares = zip(*(mix or {Criticality.DEFAULT: 1.0}).items(), strict=True)
    arrivals = np.sort(rng.uniform(0, seconds, rng.poisson(rate * seconds)))
    chosen = rng.choice(len(classes), len(arrivals), p=shares)
    start = now()
    async with asyncio.TaskGroup() as group:
        for number, at in enumerate(arrivals):
            await asyncio.sleep(max(0.0, start + float(at) - now()))
            group.create_task(visit(number, classes[chosen[number]]))  # type: ignore[arg-type]


@asynccontextmanager
async def sleeping_graph(
    plan: Plan, nodes: Sequence[SleepingNode], policies: Policies | None = None
) -> AsyncIterator[Sleeping]:
    """Opens the calls of a plan with its policies before `nodes`."""
    by_name = {node.name: node for node in nodes}

    def wire(node: NodePlan) -> Call:
        return by_name[node.name]

    channels: Channels = {
        node.service: ServiceChannel(node.service, None)  # type: ignore[arg-type]
        for node in plan.nodes.values()
    }
    async with AsyncExitStack() as stack:
        for node in nodes:
            await stack.enter_async_context(node.batcher)
        calls = await stack.enter_async_context(
            open_calls({"graph": plan}, channels, policies or Policies(), wire=wire)
        )
        yield Sleeping(plan, by_name, calls["graph"])
