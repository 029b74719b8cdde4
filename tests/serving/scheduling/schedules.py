"""Random schedules for the batcher: arrivals, cancels, deadlines, failures, poison, 1 to 3 engines.

Engines wait for the event loop to bring their next batch, or cut it ahead as an instance's thread
does.

`run_schedule(seed)` plays one on virtual time and asserts the promises of the runtime on what the
engines and the callers saw. A seed that fails is a regression test by itself.
"""

import asyncio
import functools
import math
import random
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

from serving.errors import DeadlineError, EngineError, QueueFullError
from serving.request import Criticality
from serving.scheduling.batcher import Batcher
from serving.scheduling.instances import BatchTooLargeError
from serving.scheduling.scheduler import BatchingConfig
from tests.virtual_time import now


@dataclass(frozen=True, slots=True)
class Plan:
    """One caller: when it comes, what it brings, and when it leaves (inf: it stays)."""

    name: int
    arrival: float
    rows: int
    cost: float
    bucket: int
    deadline: float
    leaves: float
    criticality: Criticality
    is_poison: bool
    work: int


@dataclass(slots=True)
class World:
    """One schedule: its engines' behaviour, and what they saw."""

    random: random.Random
    config: BatchingConfig
    memory: int
    executions: dict[int, int] = field(default_factory=dict)

    def begin(self, plans: list[Plan]) -> int:
        """Notes that plans are executed; returns their rows."""
        rows = sum(plan.rows for plan in plans)
        assert rows <= self.config.max_batch_rows
        assert len(plans) == 1 or sum(p.cost for p in plans) <= self.config.max_batch_cost
        assert len({plan.bucket for plan in plans}) == 1
        for plan in plans:
            assert plan.deadline > now(), "late execution"
            assert plan.leaves >= now() - 1e-9, "executed for a caller who has gone"
            self.executions[plan.name] = self.executions.get(plan.name, 0) + 1
        if rows > self.memory:
            raise BatchTooLargeError
        return rows

    def answer(self, plans: list[Plan]) -> list[Any]:
        if any(plan.is_poison for plan in plans):
            raise EngineError("poison")  # typed, so that the batcher does not log each
        return [(plan.name, plan.rows) for plan in plans]


@dataclass(slots=True)
class Instance:
    """One engine, which nobody may call while it is busy; `reach` rows at most are quickly done."""

    world: World
    reach: int
    cut_ahead: Callable[[], list[Plan] | None] | None = None
    is_busy: bool = False
    ahead: deque[asyncio.Future[list[Any]]] = field(default_factory=deque)

    async def run(self, plans: list[Plan]) -> list[Any]:
        running = self.ahead.popleft() if self.ahead else asyncio.ensure_future(self._run(plans))
        return await running

    async def _run(self, plans: list[Plan]) -> list[Any]:
        assert not self.is_busy
        rows = self.world.begin(plans)
        self.is_busy = True
        await asyncio.sleep(self.world.random.uniform(0.001, 0.003) * (2 + rows))
        self.is_busy = False
        answers = self.world.answer(plans)
        if self.cut_ahead and (following := self.cut_ahead()):
            self.ahead.append(asyncio.ensure_future(self._run(following)))
            await asyncio.sleep(self.world.random.uniform(0, 0.004))  # the loop hears of it late
        return answers

    def is_shorter(self, plan: Plan) -> bool:
        return plan.rows <= self.reach

    def infer(self, plan: Plan) -> Any:
        assert not self.is_busy
        self.world.begin([plan])
        return self.world.answer([plan])[0]


async def run_schedule(seed: int) -> None:
    """Plays the schedule of a seed; raises `AssertionError` where a promise is broken."""
    source = random.Random(seed)
    config = BatchingConfig(
        max_batch_rows=source.randint(2, 8),
        max_batch_cost=source.choice([math.inf, 6.0]),
        max_queue_rows=source.randint(4, 20),
    )
    memory = source.choice([10**6] * 4 + [source.randint(1, 8)])
    world = World(source, config, memory)
    start = now()
    plans = [_plan(source, name, start, config) for name in range(source.randint(2, 14))]
    reach = source.choice([0, 0, 0, 2])
    instances = [Instance(world, reach) for _ in range(source.randint(1, 3))]
    runs = [instance.run for instance in instances]
    async with Batcher(runs, config, "schedules", instances if reach else ()) as batcher:
        if source.random() < 0.5:
            for index, instance in enumerate(instances):
                instance.cut_ahead = functools.partial(batcher.cut_ahead, index)
        outcomes = await asyncio.gather(*(_call(batcher, plan) for plan in plans))
        assert (batcher.scheduler.queue.rows, batcher.scheduler.queue.work) == (0, 0)
    for plan, outcome in zip(plans, outcomes, strict=True):
        _check(world, plan, outcome)


def _plan(source: random.Random, name: int, start: float, config: BatchingConfig) -> Plan:
    arrival = start + source.choice([0.0, source.uniform(0, 0.05)])
    deadline = arrival + source.choice([math.inf, source.uniform(0.001, 0.1)])
    leaves = arrival + source.choice([math.inf, math.inf, source.uniform(0, 0.05)])
    return Plan(
        name,
        arrival,
        source.randint(1, config.max_batch_rows),
        source.uniform(0.1, 3.0),
        source.choice([0, 0, 0, 1, source.randint(2, 9)]),
        deadline,
        leaves,
        source.choice(list(Criticality)),
        source.random() < 0.05,
        source.choice([0, source.randint(1, 200)]),
    )


async def _call(batcher: Batcher[Plan, Any], plan: Plan) -> Any:
    """One caller; its outcome is an answer, a `_Failed`, or "left"."""
    await asyncio.sleep(plan.arrival - now())
    call = asyncio.ensure_future(
        batcher.submit(
            plan,
            rows=plan.rows,
            cost=plan.cost,
            bucket=plan.bucket,
            deadline=plan.deadline,
            criticality=plan.criticality,
            work=plan.work,
        )
    )
    timeout = None if plan.leaves == math.inf else max(0.0, plan.leaves - now())
    await asyncio.wait([call], timeout=timeout)
    if not call.done():
        call.cancel()
        await asyncio.wait([call])
        return "left"
    if error := call.exception():
        return _Failed(error, now())
    return call.result()


@dataclass(frozen=True, slots=True)
class _Failed:
    error: BaseException
    time: float


def _check(world: World, plan: Plan, outcome: Any) -> None:
    executed = world.executions.get(plan.name, 0)
    if outcome == "left":
        return
    if isinstance(outcome, _Failed):
        _check_failure(world, plan, outcome, executed)
    else:
        assert outcome == (plan.name, plan.rows), "somebody else's rows"
        assert executed
        assert not plan.is_poison


def _check_failure(world: World, plan: Plan, failed: _Failed, executed: int) -> None:
    if isinstance(failed.error, QueueFullError):
        assert not executed or plan.rows > world.memory  # tried at once, without success
    elif isinstance(failed.error, DeadlineError):
        # only a batch that failed and is being halved may learn of its deadline late
        assert executed or failed.time <= plan.deadline + 1e-9
    else:
        assert isinstance(failed.error, EngineError)
        assert executed
        assert plan.is_poison or plan.rows > world.memory
