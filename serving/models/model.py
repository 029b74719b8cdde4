"""A model that serves: its engines, their threads, the batcher before them, and its warm-up."""

import asyncio
import logging
import time
from collections.abc import Callable, Sequence
from types import TracebackType
from typing import Any

import numpy as np
from numpy.typing import NDArray

from fomofeed.type.v1 import type_pb2
from serving import request
from serving.engines.cpus import check_plan
from serving.engines.engine import Arrays, Engine
from serving.engines.instance import Instance
from serving.engines.onnx import OnnxEngine
from serving.models.artifacts import Artifact
from serving.scheduling.batcher import Batcher
from serving.scheduling.scheduler import BatchingConfig

log = logging.getLogger(__name__)

_WARM_UP_ROWS = (1, 4)  # two sizes, so that time per call and per row are both learned
_Outputs = dict[str, NDArray[Any]]


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
    ) -> None:
        self.ref = ref or type_pb2.ModelRef(model=name)
        self.inputs, self.outputs = engines[0].inputs, engines[0].outputs
        self._name = name
        self._is_batched = all(spec.shape[:1] == (-1,) for spec in self.inputs)
        if not self._is_batched:
            batching = BatchingConfig(max_batch_rows=1, max_queue_rows=batching.max_queue_rows)
        self._instances = [Instance(e, f"{name}-{i}") for i, e in enumerate(engines)]
        infers = [_batch_runner(i, self._max_rows) for i in self._instances]
        self.batcher: Batcher[_Rows, _Outputs] = Batcher(infers, batching, name)

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
        log.info("%s: warm after %.2f s", self._name, time.perf_counter() - start)
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        await self.batcher.__aexit__(kind, error, trace)
        for instance in self._instances:
            await instance.close()

    def _max_rows(self) -> int:
        return self.batcher.scheduler.max_rows

    async def infer(self, inputs: Arrays) -> _Outputs:
        """Runs the model on `inputs`, whose first dimension is the row; outputs likewise.

        Deadline, criticality and ledger are those of the current call. More rows than a batch are
        split and answered whole. Raises what `Batcher.submit` raises.
        """
        facts = request.current()
        facts.ledger.model = self.ref
        rows = next(iter(inputs.values())).shape[0] if self._is_batched else 1
        limit = self.batcher.scheduler.max_rows
        if rows <= limit:
            return await self._submit(_Rows(inputs, rows), facts)
        parts = [
            _Rows({n: a[at : at + limit] for n, a in inputs.items()}, min(limit, rows - at))
            for at in range(0, rows, limit)
        ]
        try:
            async with asyncio.TaskGroup() as group:
                tasks = [group.create_task(self._submit(part, facts)) for part in parts]
        except ExceptionGroup as group_error:
            raise group_error.exceptions[0] from None
        return _concatenate([task.result() for task in tasks])

    async def _submit(self, part: "_Rows", facts: request.CallFacts) -> _Outputs:
        return await self.batcher.submit(
            part,
            rows=max(1, part.rows),
            bucket=part.bucket(),
            deadline=facts.deadline,
            criticality=facts.criticality,
            ledger=facts.ledger,
        )

    def _warm_up(self, engine: Engine) -> None:
        """Runs zeros, so that no caller pays for first-call work, and learns the times."""
        service_time = self.batcher.scheduler.service_time
        for rows in _WARM_UP_ROWS if self._is_batched else (1,):
            if rows > self.batcher.scheduler.max_rows:
                continue
            zeros = {spec.name: _zeros(spec.shape, spec.dtype, rows) for spec in self.inputs}
            for is_first in (True, False):
                start = time.perf_counter()
                engine.infer(zeros)
                if not is_first:
                    now = time.perf_counter()
                    bucket = _Rows(zeros, rows).bucket()
                    service_time.observe(bucket, rows, now - start, float("-inf"))


class _Rows:
    """The arrays of one request, or of one batch-sized part of it."""

    __slots__ = ("arrays", "rows")

    def __init__(self, arrays: Arrays, rows: int) -> None:
        self.arrays, self.rows = arrays, rows

    def bucket(self) -> tuple[tuple[int, ...], ...]:
        """Rows of one shape may share a batch."""
        return tuple(array.shape[1:] for array in self.arrays.values())


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


def _batch_runner(instance: Instance, limit: Callable[[], int]) -> Callable[[list[_Rows]], Any]:
    async def infer(items: list[_Rows]) -> list[_Outputs]:
        return await instance.run(lambda engine: _infer(engine, items, limit()))

    return infer


def _infer(engine: Engine, items: list[_Rows], limit: int) -> list[_Outputs]:
    """Joins the rows, runs them and parts them again; on the instance's thread."""
    if len(items) == 1:
        return [_infer_one(engine, items[0], limit)]
    joined = {
        name: np.concatenate([item.arrays[name] for item in items]) for name in items[0].arrays
    }
    outputs = engine.infer(joined)
    parted, start = [], 0
    for item in items:
        end = start + item.rows
        parted.append({name: array[start:end] for name, array in outputs.items()})
        start = end
    return parted


def _infer_one(engine: Engine, item: _Rows, limit: int) -> _Outputs:
    """Runs one request, in slices when it was queued before out-of-memory lowered the limit."""
    if item.rows <= limit:
        return engine.infer(item.arrays)
    slices = range(0, item.rows, limit)
    return _concatenate(
        [engine.infer({n: a[at : at + limit] for n, a in item.arrays.items()}) for at in slices]
    )


def _concatenate(parts: Sequence[_Outputs]) -> _Outputs:
    return {name: np.concatenate([part[name] for part in parts]) for name in parts[0]}


def _zeros(shape: tuple[int, ...], dtype: np.dtype[Any], rows: int) -> NDArray[Any]:
    sizes = [size if size >= 0 else 1 for size in shape]
    if shape[:1] == (-1,):
        sizes[0] = rows
    return np.full(sizes, "", dtype) if dtype == np.object_ else np.zeros(sizes, dtype)
