"""Overload on virtual time: an open loop beyond saturation against a simulated engine.

The engine takes a + b * rows seconds with 10 % noise; callers give 500 ms. Peak is what the engine
does in full batches without pause.
"""

import asyncio
import random
import time
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass, field
from typing import Any

import pytest

from cluster.load.arrivals import poisson
from cluster.load.client import OpenLoop
from cluster.load.outcomes import LABELS, OK, Outcomes
from cluster.load.summary import summarize
from serving.errors import QueueFullError, ServingError
from serving.request import Criticality
from serving.scheduling.batcher import Batcher
from serving.scheduling.scheduler import BatchingConfig, Scheduler
from tests.virtual_time import now, run_virtually

DEADLINE_S = 0.5
NOISE = 0.1
SECONDS = 8.0
MIX = (Criticality.CRITICAL, Criticality.DEFAULT, Criticality.DEFAULT, Criticality.SHEDDABLE)


@dataclass(frozen=True, slots=True)
class Speed:
    """Seconds of an engine call, and the rows it takes at most."""

    per_call_s: float
    per_row_s: float
    rows: int

    def peak(self, instances: int = 1) -> float:
        """Rows a second in full batches."""
        return instances * self.rows / (self.per_call_s + self.rows * self.per_row_s)


IMAGE = Speed(0.002, 0.010, rows=8)
TEXT = Speed(0.002, 0.004, rows=32)
GPU = Speed(0.050, 0.002, rows=32)


@dataclass(slots=True)
class Server:
    """A batcher before noisy engines, asked by index; remembers what was executed too late."""

    speed: Speed
    classes: tuple[Criticality, ...] = (Criticality.DEFAULT,)
    instances: int = 1
    buckets: int = 1  # shapes, asked for at random
    deadline_s: float = DEADLINE_S
    late_executions: int = 0
    lost_rows: int = 0  # executed in time, but done only after their deadline
    executed_rows: int = 0
    refusal_s: list[float] = field(default_factory=list)
    _noise: random.Random = field(default_factory=lambda: random.Random(1))

    async def infer(self, deadlines: list[float]) -> list[None]:
        self.late_executions += sum(deadline <= now() for deadline in deadlines)
        seconds = self.speed.per_call_s + self.speed.per_row_s * len(deadlines)
        await asyncio.sleep(seconds * max(0.1, self._noise.gauss(1, NOISE)))
        self.lost_rows += sum(deadline < now() for deadline in deadlines)
        self.executed_rows += len(deadlines)
        return [None] * len(deadlines)

    async def play(self, overload: float | Callable[[float], float]) -> Outcomes:
        """Offers `overload` times the peak; a function of time thins out its maximum, 3."""
        times = overload if callable(overload) else lambda _: overload
        most = 3.0 if callable(overload) else overload
        peak = self.speed.peak(self.instances)
        offsets = poisson(peak * most, SECONDS, seed=2)
        kept = random.Random(3)
        offsets = offsets[[kept.random() * most < times(at) for at in offsets]]
        shapes = random.Random(4)
        buckets = [shapes.randrange(self.buckets) for _ in offsets]
        config = BatchingConfig(max_batch_rows=self.speed.rows)
        async with Batcher([self.infer] * self.instances, config, "overload") as batcher:

            async def call(index: int, timeout_s: float) -> int:
                arrival = now()
                deadline = arrival + timeout_s
                criticality = self.classes[index % len(self.classes)]
                facts: dict[str, Any] = {"deadline": deadline, "criticality": criticality}
                try:
                    await batcher.submit(deadline, bucket=buckets[index], **facts)
                except ServingError as error:
                    self.refusal_s.append(now() - arrival)
                    return int(error.code.value[0])
                return OK

            return await OpenLoop(call, offsets, self.deadline_s).run(now())

    def goodput(self, outcomes: Outcomes) -> float:
        """Answers in time a second, as a share of the peak."""
        good = summarize(outcomes, SECONDS, slo_s=DEADLINE_S).goodput
        return good / self.speed.peak(self.instances)


@pytest.mark.parametrize("overload", [2, 3, 5])
@pytest.mark.parametrize("speed", [IMAGE, TEXT, GPU])
def test_goodput_stays_at_the_peak_under_overload(speed: Speed, overload: float) -> None:
    server = Server(speed)
    outcomes = run_virtually(server.play(overload))
    assert server.goodput(outcomes) >= 0.95
    assert server.late_executions == 0
    assert server.lost_rows <= 0.02 * server.executed_rows
    assert "UNANSWERED" not in outcomes.counts()


def test_goodput_stays_at_the_peak_with_two_instances() -> None:
    server = Server(IMAGE, instances=2)
    assert server.goodput(run_virtually(server.play(3))) >= 0.95
    assert server.late_executions == 0


@pytest.mark.parametrize(("buckets", "least"), [(2, 0.95), (8, 0.95), (32, 0.9)])
@pytest.mark.parametrize("speed", [IMAGE, TEXT])
def test_goodput_stays_near_the_peak_with_many_shapes(
    speed: Speed, buckets: int, least: float
) -> None:
    server = Server(speed, buckets=buckets)
    outcomes = run_virtually(server.play(3))
    assert server.goodput(outcomes) >= least  # of full batches, which rare shapes do not fill
    assert server.late_executions == 0
    assert server.lost_rows <= 0.06 * server.executed_rows


def test_what_is_rarely_seen_is_not_run_for_nobody() -> None:
    server = Server(GPU, buckets=32)
    run_virtually(server.play(3))
    assert server.lost_rows <= 0.25 * server.executed_rows


def test_nobody_waits_for_a_refusal() -> None:
    server = Server(IMAGE)
    outcomes = run_virtually(server.play(3))
    refused = len(outcomes) - outcomes.counts()["OK"]
    at_once = sum(seconds < 1e-6 for seconds in server.refusal_s)
    assert at_once >= 0.99 * refused
    assert max(server.refusal_s) <= DEADLINE_S


def test_the_critical_class_is_answered_at_twice_the_peak() -> None:
    server = Server(IMAGE, MIX)  # a quarter critical: half the peak
    outcomes = run_virtually(server.play(2))
    in_time = outcomes.is_ok & (outcomes.latency <= DEADLINE_S)
    assert in_time[0 :: len(MIX)].mean() >= 0.999
    assert in_time[3 :: len(MIX)].mean() > 0.02  # the lowest class is not starved either
    assert server.late_executions == 0


def test_latency_is_normal_again_a_second_after_a_burst() -> None:
    server = Server(IMAGE)
    outcomes = run_virtually(server.play(lambda at: 3.0 if 2 <= at < 5 else 0.5))
    before = outcomes.since(0)
    calm = before.latency[before.intended < 2]
    after = outcomes.since(6.0)
    assert after.is_ok.all()
    assert after.latency.max() <= 1.5 * calm.max()


def test_a_refusal_costs_microseconds_behind_a_full_queue_of_many_shapes() -> None:
    scheduler = Scheduler(BatchingConfig(max_batch_rows=8, max_queue_rows=512))
    for bucket in range(32):
        scheduler.service_time.observe(bucket, 1, 0.01, 0.0)
    for number in range(512):
        scheduler.queue.push(scheduler.entry(None, 0.0, bucket=number % 32, deadline=60.0))
    spent = []
    for number in range(200):
        entry = scheduler.entry(None, 0.0, bucket=number % 32, deadline=DEADLINE_S)
        start = time.thread_time()
        with pytest.raises(QueueFullError):
            scheduler.admit(entry, 0.0)
        spent.append(time.thread_time() - start)
    assert sorted(spent)[197] < 0.002


class Window:
    """The usual batcher: a batch runs when it is full, or a fixed time after its first request."""

    def __init__(self, server: Server, seconds: float) -> None:
        self.server, self.seconds = server, seconds
        self.waiting: list[tuple[float, asyncio.Future[None]]] = []
        self.full, self.engine = asyncio.Event(), asyncio.Lock()
        self.tasks: set[asyncio.Task[None]] = set()

    async def submit(self, deadline: float) -> None:
        answer: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self.waiting.append((deadline, answer))
        if len(self.waiting) == 1:
            task = asyncio.create_task(self.close())
            self.tasks.add(task)
            task.add_done_callback(self.tasks.discard)
        if len(self.waiting) >= self.server.speed.rows:
            self.full.set()
        await answer

    async def close(self) -> None:
        with suppress(TimeoutError):
            await asyncio.wait_for(self.full.wait(), self.seconds)
        self.full.clear()
        batch, self.waiting = self.waiting, []
        async with self.engine:
            await self.server.infer([deadline for deadline, _ in batch])
        for _, answer in batch:
            if not answer.done():
                answer.set_result(None)


@pytest.mark.parametrize("load", [0.7, 0.9])
def test_no_fixed_window_serves_more_in_time(load: float) -> None:
    timeout_s, seconds = 0.05, 4.0

    async def play(window_s: float) -> Outcomes:
        window = Window(Server(TEXT), window_s)

        async def call(index: int, timeout_s: float) -> int:
            await window.submit(now() + timeout_s)
            return OK

        offsets = poisson(load * TEXT.peak(), seconds, seed=2)
        return await OpenLoop(call, offsets, timeout_s).run(now())

    def in_time(outcomes: Outcomes) -> float:
        return float((outcomes.is_ok & (outcomes.latency <= timeout_s)).mean())

    ours = Server(TEXT, deadline_s=timeout_s)
    best = max(in_time(run_virtually(play(ms / 1000))) for ms in (0, 2, 5, 10, 20))
    assert in_time(run_virtually(ours.play(load))) >= best - 0.01


def test_a_server_that_takes_everything_collapses_in_the_same_experiment() -> None:
    async def play_naive() -> Outcomes:
        engine, turn = Server(IMAGE), asyncio.Lock()
        waiting: list[float] = []
        running: dict[float, asyncio.Future[None]] = {}

        async def call(index: int, timeout_s: float) -> int:
            deadline = now() + timeout_s
            waiting.append(deadline)
            running[deadline] = asyncio.get_running_loop().create_future()
            async with turn:
                if not running[deadline].done():
                    batch, waiting[:] = waiting[: IMAGE.rows], waiting[IMAGE.rows :]
                    await engine.infer(batch)
                    for member in batch:
                        running[member].set_result(None)
            await running[deadline]
            return OK if now() <= deadline else LABELS.index("DEADLINE_EXCEEDED")

        offsets = poisson(3 * IMAGE.peak(), SECONDS, seed=2)
        return await OpenLoop(call, offsets, DEADLINE_S).run(now())

    assert Server(IMAGE).goodput(run_virtually(play_naive())) < 0.3
