"""A model whose requests of different lengths share engine calls without being padded."""

from collections.abc import Sequence
from itertools import accumulate
from typing import Any

import numpy as np

from fomofeed.type.v1 import type_pb2
from serving.engines.engine import Arrays, Engine, TensorSpec
from serving.engines.ragged import Ragged, RaggedEngine, flat
from serving.models.lengths import common_length
from serving.models.rows import Calls, Outputs, Rows, check_rows, joined, timed
from serving.models.shaped import ShapedModel
from serving.models.warm_up import Shapes
from serving.scheduling.scheduler import BatchingConfig


class RaggedRows(Rows):
    """Rows of one length; their work is that of their elements. All of a model share a bucket."""

    __slots__ = ("length",)

    def __init__(self, arrays: Arrays, rows: int, ragged: Ragged) -> None:
        super().__init__(arrays, rows)
        self.length = arrays[ragged.inputs[0]].shape[1]
        self.work = rows * self.length
        self.bucket = tuple(
            [a.shape[2 if name in ragged.inputs else 1 :] for name, a in arrays.items()]
        )


class RaggedModel(ShapedModel):
    """A model whose batches are ragged: its limits are rows and elements, its time is of elements.

    There are no lengths to choose, whoever came first runs first, and a batch takes what fits.
    """

    def __init__(
        self,
        name: str,
        engines: Sequence[RaggedEngine],
        batching: BatchingConfig,
        ref: type_pb2.ModelRef | None = None,
        *,
        warm_up: Sequence[Shapes] | None = None,
    ) -> None:
        """`batching.max_batch_cost` are elements. The rest as for a `Model`."""
        self._ragged = engines[0].ragged
        super().__init__(name, engines, batching, ref, warm_up=warm_up, cost_of="elements")

    async def infer(self, inputs: Arrays) -> Outputs:
        """Runs the model on `inputs`; see `Model.infer`. No rows are answered without it.

        Raises `InvalidRequestError` when those that are ragged differ in length.
        """
        length = common_length(inputs, self._ragged.inputs)
        if not len(inputs[self._ragged.inputs[0]]):  # engines differ in what nothing is
            return {spec.name: self._nothing(spec, length) for spec in self.outputs}
        return await super().infer(inputs)

    def _nothing(self, spec: TensorSpec, length: int) -> Any:
        sizes = [max(0, size) for size in spec.shape]
        if spec.name in self._ragged.outputs:
            sizes[1] = length
        return np.zeros(sizes, spec.dtype)

    def _rows(self, arrays: Arrays, rows: int) -> Rows:
        return RaggedRows(arrays, rows, self._ragged)

    def _row_cost(self, inputs: Arrays) -> int:
        return max(1, int(inputs[self._ragged.inputs[0]].shape[1]))

    def _run_batch(self, engine: Engine, items: list[Any]) -> tuple[list[Outputs], Calls]:
        if len(items) == 1:
            answers, calls = super()._run_batch(engine, items)
            check_rows(answers[0], items[0].rows)
            return answers, calls
        assert isinstance(engine, RaggedEngine)
        return run_ragged(engine, items)


def run_ragged(engine: RaggedEngine, items: Sequence[RaggedRows]) -> tuple[list[Outputs], Calls]:
    """Joins rows of any lengths, runs them and parts them again; on the instance's thread.

    Also returns what the one engine call was of, and how long it took.
    """
    ragged = engine.ragged
    line = {name: _joined(items, name, name in ragged.inputs) for name in items[0].arrays}
    counts = np.repeat([item.length for item in items], [item.rows for item in items])
    calls: Calls = []
    rows, work = len(counts), int(counts.sum())
    outputs = timed(lambda: engine.infer_flat(line, counts), rows, work, calls)
    check_rows({n: array for n, array in outputs.items() if n not in ragged.outputs}, rows)
    check_rows({name: outputs[name] for name in ragged.outputs}, work)
    ends = zip(
        accumulate(item.rows for item in items),
        accumulate(item.work for item in items),
        strict=True,
    )
    return [
        {
            name: array[end_work - item.work : end_work].reshape(
                item.rows, item.length, *array.shape[1:]
            )
            if name in ragged.outputs
            else array[end - item.rows : end]
            for name, array in outputs.items()
        }
        for item, (end, end_work) in zip(items, ends, strict=True)
    ], calls


def _joined(items: Sequence[RaggedRows], name: str, is_flat: bool) -> Any:
    arrays = [item.arrays[name] for item in items]
    return joined([flat(array) for array in arrays] if is_flat else arrays)
