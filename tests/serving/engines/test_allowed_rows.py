from typing import Any

import numpy as np
import pytest

from serving.engines.allowed_rows import AllowedRows
from serving.engines.engine import Arrays
from tests.serving.oip.requests import Copies, spec


class Watched(Copies):
    """Copies, and remembers how many rows each call had."""

    def __init__(self) -> None:
        super().__init__(spec("x", "FP32", -1, 2), spec("t", "BYTES", -1))
        self.rows: list[int] = []

    def infer(self, inputs: Arrays) -> dict[str, Any]:
        self.rows.append(len(inputs["x"]))
        return super().infer(inputs)


@pytest.mark.parametrize(
    ("rows", "seen"), [(1, 1), (2, 2), (3, 4), (4, 4), (5, 8), (8, 8), (9, 9), (0, 0)]
)
def test_only_allowed_numbers_of_rows_reach_the_engine(rows: int, seen: int) -> None:
    engine = Watched()
    x = np.arange(2 * rows, dtype=np.float32).reshape(rows, 2)
    texts = np.array([f"{row}" for row in range(rows)], np.object_)
    found = AllowedRows(engine, [8, 1, 4, 2]).infer({"x": x, "t": texts})
    assert engine.rows == [seen]
    np.testing.assert_array_equal(found["x_out"], x)
    np.testing.assert_array_equal(found["t_out"], texts)
