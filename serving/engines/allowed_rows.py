"""For engines that compile or capture per shape: only certain numbers of rows ever reach them."""

from bisect import bisect_left
from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from serving.engines.engine import Arrays, Engine


class AllowedRows:
    """Fills a batch up to the next allowed number of rows, and cuts the filling off the answer.

    The filling repeats the last row: unlike zeros, it is something that the model takes. More rows
    than the largest allowed number run as they are.
    """

    def __init__(self, engine: Engine, allowed: Sequence[int]) -> None:
        """`allowed` are numbers from 1, in any order."""
        self.inputs, self.outputs = engine.inputs, engine.outputs
        self.allowed = tuple(sorted({*allowed}))
        self._engine = engine

    def infer(self, inputs: Arrays) -> dict[str, NDArray[Any]]:
        """Runs one batch as the engine does, which sees only allowed numbers of rows."""
        rows = next(iter(inputs.values())).shape[0]
        at = bisect_left(self.allowed, rows)
        missing = self.allowed[at] - rows if at < len(self.allowed) else 0
        if not missing or not rows:
            return self._engine.infer(inputs)
        filled = {name: _filled(array, missing) for name, array in inputs.items()}
        return {name: array[:rows] for name, array in self._engine.infer(filled).items()}


def _filled(array: NDArray[Any], missing: int) -> NDArray[Any]:
    return np.concatenate([array, np.repeat(array[-1:], missing, axis=0)])
