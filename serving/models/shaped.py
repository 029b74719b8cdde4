"""A model whose requests have many shapes: padded to common lengths, counted by cost."""

import math
from collections.abc import Sequence

from fomofeed.type.v1 import type_pb2
from serving.engines.engine import Arrays, Engine
from serving.models.model import Model
from serving.models.padding import Padding
from serving.models.parts import infer_parts
from serving.models.rows import Outputs, Rows
from serving.models.warm_up import Shapes
from serving.request import CallFacts
from serving.scheduling.scheduler import BatchingConfig


class ShapedModel(Model):
    """A model that pads and counts, if it is told how; else as any other.

    The cost of a row is the number of elements of the input `cost_of`, after padding: ids of a
    text, values of a picture. A batch holds at most `max_batch_cost`, or one row that costs more.
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
        padding: Padding | None = None,
        cost_of: str = "",
    ) -> None:
        """`cost_of` empty: rows cost nothing. The rest as for a `Model`."""
        super().__init__(name, engines, batching, ref, is_batched=is_batched, warm_up=warm_up)
        self._padding, self._cost_of = padding, cost_of

    async def infer(self, inputs: Arrays) -> Outputs:
        """Runs the model on `inputs`; see `Model.infer`."""
        infer = self._infer_costly if self._cost_of else super().infer
        if self._padding is None:
            return await infer(inputs)
        length = self._padding.length(inputs)
        outputs = await infer(self._padding.pad(inputs, length))
        return self._padding.cut(outputs, length)

    async def _infer_costly(self, inputs: Arrays) -> Outputs:
        """Splits a request that costs more than a batch may, as `Model` splits one of many rows."""
        rows = next(iter(inputs.values())).shape[0]
        most = self.batcher.scheduler.config.max_batch_cost
        limit = max(1, int(most) // self._row_cost(inputs))
        if rows <= limit or not self.is_batched:
            return await super().infer(inputs)
        parts = [
            {name: array[at : at + limit] for name, array in inputs.items()}
            for at in range(0, rows, limit)
        ]
        return await infer_parts(super().infer, parts)

    def _row_cost(self, inputs: Arrays) -> int:
        return max(1, math.prod(inputs[self._cost_of].shape[1:]))

    async def _submit(self, part: Rows, facts: CallFacts) -> Outputs:
        return await self.batcher.submit(
            part,
            rows=max(1, part.rows),
            work=part.work,
            cost=part.rows * self._row_cost(part.arrays) if self._cost_of else 1.0,
            bucket=part.bucket,
            deadline=facts.deadline,
            criticality=facts.criticality,
            ledger=facts.ledger,
        )
