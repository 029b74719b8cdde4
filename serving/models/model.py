"""A model that serves: its engines, their threads, the batcher before them, and its warm-up."""

import asyncio
import logging
import time
from collections import deque
from collections.abc import Sequence
from types import TracebackType
from typing import Any

from fomofeed.type.v1 import type_pb2
from serving import request, telemetry
from serving.engines.cpus import check_plan
from serving.engines.engine import Arrays, Engine
from serving.engines.instance import Instance, Job
from serving.engines.onnx import OnnxEngine
from serving.errors import InvalidRequestError, Violation
from serving.models.artifacts import Artifact
from serving.models.parts import infer_parts
from serving.models.rows import Calls, Outputs, Rows, run_batch
from serving.models.shortcut import EngineShortcut, learn_bound
from serving.models.statistics import EngineStatistics
from serving.models.warm_up import WARM_UP_ROWS, Shapes, guessed_shapes, zeros
from serving.scheduling.batcher import Batcher
from serving.scheduling.instances import Infer, Shortcut
from serving.scheduling.scheduler import BatchingConfig
from serving.scheduling.service_time import ServiceTime

log = logging.getLogger(__name__)


class Model:
    """One loaded and warmed model; an async context manager. Belongs to one event loop.

    Rows of different calls share engine calls. An answer does not depend on its batch mates beyond
    the manifest's tolerance.
    """

    def __init__(
        self,
        name: str,
        engines: Sequence[Engine],
        batching: BatchingConfig,
        ref: type_pb2.ModelRef | None = None,
        *,
        is_batched: bool | None = None,
        warm_up: Sequence[Shapes] | None = None,
    ) -> None:
        """`is_batched` None: as the shapes say. `warm_up` None: on shapes that are guessed."""
        self.ref = ref or type_pb2.ModelRef(model=name)
        self.name = name
        self.inputs, self.outputs = engines[0].inputs, engines[0].outputs
        self.is_batched = has_rows(engines[0]) if is_batched is None else is_batched
        self.instance_count = len(engines)
        self.statistics = EngineStatistics()
        self._engine_times = ServiceTime()  # on the event loop, as far as is known
        if not self.is_batched:
            batching = BatchingConfig(max_batch_rows=1, max_queue_rows=batching.max_queue_rows)
        self._warm_up_shapes = (guessed_shapes(self.inputs),) if warm_up is None else warm_up
        self._instances = [Instance(e, f"{name}-{i}") for i, e in enumerate(engines)]
        infers = [self._runner(i, instance) for i, instance in enumerate(self._instances)]
        shortcuts = [
            self._shortcut(instance)
            for instance in self._instances
            if all(getattr(engine, "is_movable", False) for engine in engines)
        ]
        self.batcher: Batcher[Rows, Outputs] = Batcher(infers, batching, name, shortcuts)

    @classmethod
    def open(
        cls,
        artifact: Artifact,
        batching: BatchingConfig | None = None,
        *,
        instances: int = 1,
        threads: int = 1,
        device: str = "cpu",
    ) -> "Model":
        """Loads an ONNX artifact, whose digest was verified when it was opened."""
        if warning := check_plan(instances, threads):
            log.warning("%s: %s", artifact.manifest.name, warning)
        manifest = artifact.manifest
        engines = [
            OnnxEngine(artifact.path, threads=threads, device=device) for _ in range(instances)
        ]
        limits = batching or BatchingConfig(max_batch_rows=manifest.max_batch_rows)
        return cls(manifest.name, engines, limits, model_ref(artifact))

    async def __aenter__(self) -> "Model":
        start = time.perf_counter()
        await self.batcher.__aenter__()
        for instance in self._instances:
            await instance.run(self._warm_up)
        telemetry.announce(self.ref)
        self.batcher.announce()
        log.info("%s: warm after %.2f s", self.name, time.perf_counter() - start)
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        telemetry.withdraw(self.ref)
        await self.batcher.__aexit__(kind, error, trace)
        for instance in self._instances:
            await instance.close()

    def _fitting_rows(self, item: Rows) -> int:
        """Rows of an item that the device has memory for at once."""
        scheduler = self.batcher.scheduler
        most = scheduler.fitting_work(item.bucket) * item.rows / max(1, item.work)
        return max(1, int(min(scheduler.config.max_batch_rows, most)))

    async def infer(self, inputs: Arrays) -> Outputs:
        """Runs the model on `inputs`, whose first dimension is the row; outputs likewise.

        Deadline, criticality and ledger are those of the current call. More rows than a batch are
        split and answered whole. Raises what `Batcher.submit` raises, and `InvalidRequestError` for
        more rows than may ever wait.
        """
        facts = request.current()
        facts.ledger.model = self.ref
        rows = next(iter(inputs.values())).shape[0] if self.is_batched else 1
        limit = self.batcher.scheduler.config.max_batch_rows
        if rows <= limit:
            return await self._submit(self._rows(inputs, rows), facts)
        if rows > (most := self.batcher.scheduler.config.max_queue_rows):
            raise InvalidRequestError(Violation("rows", str(rows), f"at most {most} in a request"))
        parts = [
            self._rows({n: a[at : at + limit] for n, a in inputs.items()}, min(limit, rows - at))
            for at in range(0, rows, limit)
        ]
        return await infer_parts(lambda part: self._submit(part, request.current()), parts)

    def _rows(self, arrays: Arrays, rows: int) -> Rows:
        return Rows(arrays, rows)

    async def _submit(self, part: Rows, facts: request.CallFacts) -> Outputs:
        return await self.batcher.submit(
            part,
            rows=max(1, part.rows),
            bucket=part.bucket,
            deadline=facts.deadline,
            criticality=facts.criticality,
            ledger=facts.ledger,
        )

    def _shortcut(self, instance: Instance) -> Shortcut[Rows, Outputs]:
        return EngineShortcut(instance, self._engine_times, self.statistics, self._run_batch)

    def _runner(self, index: int, instance: Instance) -> Infer[Rows, Outputs]:
        """Returns what runs batches on an instance, whose thread begins the next by itself."""
        begun: deque[Job[tuple[list[Outputs], Calls]]] = deque()

        def job_of(items: list[Rows], loop: asyncio.AbstractEventLoop) -> Job[Any]:
            def following() -> Job[Any] | None:
                ahead = self.batcher.cut_ahead(index)
                return job_of(ahead, loop) if ahead else None

            result = loop.create_future()
            job = Job(lambda engine: self._run_batch(engine, items), result, following)
            begun.append(job)
            return job

        async def infer(items: list[Rows]) -> list[Outputs]:
            if not begun:
                instance.begin(job_of(items, asyncio.get_running_loop()))
            answers, calls = await begun.popleft().result
            for rows, work, seconds in calls:
                learn_bound(self._engine_times, items[0].bucket, work, seconds)
                self.statistics.ran(rows, seconds)
            return answers

        return infer

    def _run_batch(self, engine: Engine, items: list[Rows]) -> tuple[list[Outputs], Calls]:
        return run_batch(engine, items, self._fitting_rows(items[0]))

    def _warm_up(self, engine: Engine) -> None:
        """Runs zeros, so that no caller pays for first-call work, and learns the times."""
        for shapes in self._warm_up_shapes:
            for rows in WARM_UP_ROWS if self.is_batched else (1,):
                if rows <= self.batcher.scheduler.config.max_batch_rows:
                    self._warm_up_with(engine, zeros(self.inputs, shapes, rows), rows)

    def _warm_up_with(self, engine: Engine, inputs: Arrays, rows: int) -> None:
        item = self._rows(inputs, rows)
        engine.infer(inputs)
        start = time.perf_counter()
        engine.infer(inputs)
        seconds = time.perf_counter() - start
        for times in (self.batcher.scheduler.service_time, self._engine_times):
            times.observe(item.bucket, item.work, seconds, float("-inf"))


def model_ref(artifact: Artifact) -> type_pb2.ModelRef:
    """Returns who answers, as it travels with every answer."""
    manifest = artifact.manifest
    return type_pb2.ModelRef(
        model=manifest.name,
        version=manifest.version,
        artifact_sha256=manifest.sha256,
        experimental=manifest.experimental,
        trained_on=manifest.trained_on,
    )


def has_rows(engine: Engine) -> bool:
    """Whether the first dimension of every input and output is free: then it is the row."""
    specs = (*engine.inputs, *engine.outputs)
    return bool(engine.inputs) and all(spec.shape[:1] == (-1,) for spec in specs)
