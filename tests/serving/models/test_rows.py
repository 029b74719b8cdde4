import asyncio
from typing import Any

import ml_dtypes
import numpy as np
import pytest

from serving.engines.engine import Arrays, TensorSpec
from serving.errors import EngineError, InvalidRequestError
from serving.models.model import Model
from serving.models.rows import Rows, run_batch
from serving.scheduling.scheduler import BatchingConfig

FREE = (-1,)


class Engine:
    """Answers with `answer(x)` over x FLOAT32 [-1]; remembers the shapes that it was run on."""

    inputs = (TensorSpec("x", np.dtype(np.float32), FREE),)
    outputs = (TensorSpec("y", np.dtype(np.float32), FREE),)

    def __init__(self, answer: Any = lambda x: x) -> None:
        self._answer = answer
        self.sizes = list[int]()

    def infer(self, inputs: Arrays) -> dict[str, Any]:
        self.sizes.append(len(inputs["x"]))
        return {"y": self._answer(inputs["x"])}


def rows(*values: float) -> Rows:
    return Rows({"x": np.array(values, np.float32)}, len(values))


def test_rows_are_joined_run_once_and_parted() -> None:
    engine = Engine(lambda x: x * 2)
    answers, calls = run_batch(engine, [rows(1), rows(2, 3), rows()], limit=8)
    assert [answer["y"].tolist() for answer in answers] == [[2], [4, 6], []]
    assert [count for count, _, _ in calls] == [3]
    assert engine.sizes == [3]


class Echo:
    """Answers with what it was given."""

    inputs = outputs = ()

    def infer(self, inputs: Arrays) -> dict[str, Any]:
        return dict(inputs)


@pytest.mark.parametrize("width", [0, 1, 2000, 600_000])
@pytest.mark.parametrize("kind", ["float32", "int64", "float16", "bool", "bfloat16", "object"])
def test_rows_of_any_type_and_size_are_joined_unchanged(kind: str, width: int) -> None:
    dtype = np.dtype(ml_dtypes.bfloat16) if kind == "bfloat16" else np.dtype(kind)
    sheet = np.random.default_rng(1).integers(0, 2, (4, width)).astype(dtype)
    parts = [sheet[:1], sheet[1:3], sheet[3:3], sheet[3:]]
    answers, _ = run_batch(Echo(), [Rows({"x": part}, len(part)) for part in parts], limit=8)
    for part, answer in zip(parts, answers, strict=True):
        assert answer["x"].dtype == dtype
        np.testing.assert_array_equal(answer["x"], part)


def test_rows_that_lie_apart_in_memory_are_joined_as_well() -> None:
    across = np.arange(8000, dtype=np.float32).reshape(2, 4000).T
    parts = [across[:1999], across[1999:]]
    answers, _ = run_batch(Echo(), [Rows({"x": part}, len(part)) for part in parts], limit=4000)
    np.testing.assert_array_equal(np.concatenate([a["x"] for a in answers]), across)


@pytest.mark.parametrize("answer", [lambda x: x[:1], lambda x: x.mean(), lambda x: [*x, 0]])
def test_outputs_without_a_row_for_each_row_are_not_parted(answer: Any) -> None:
    engine = Engine(lambda x: np.asarray(answer(x)))
    with pytest.raises(EngineError, match=r"output y has shape \(.*\) for 3 rows"):
        run_batch(engine, [rows(1), rows(2, 3)], limit=8)


async def test_callers_of_a_model_that_lies_about_its_rows_get_their_own_answers() -> None:
    engine = Engine(lambda x: x.mean(keepdims=True))
    async with Model("liar", [engine], BatchingConfig(max_batch_rows=8), warm_up=()) as model:
        answers = await asyncio.gather(
            *(model.infer({"x": np.full(1, i, np.float32)}) for i in range(6))
        )
    assert [float(answer["y"][0]) for answer in answers] == [0, 1, 2, 3, 4, 5]


async def test_engine_calls_are_counted_by_their_rows() -> None:
    async with Model("m", [Engine()], BatchingConfig(max_batch_rows=4)) as model:
        await model.infer({"x": np.zeros(3, np.float32)})
        await model.infer({"x": np.zeros(9, np.float32)})
        counts = {rows: tally.count for rows, tally in model.statistics.by_rows.items()}
        assert sum(rows * count for rows, count in counts.items()) == 12
        assert max(counts) <= 4
        assert model.statistics.call_count == sum(counts.values())


async def test_a_request_that_could_never_wait_is_refused() -> None:
    async with Model("m", [Engine()], BatchingConfig(4, max_queue_rows=8)) as model:
        with pytest.raises(InvalidRequestError, match="rows is 9, at most 8 in a request"):
            await model.infer({"x": np.zeros(9, np.float32)})


async def test_a_model_is_warmed_on_the_shapes_that_it_is_given() -> None:
    engine = Engine()
    shapes = ({"x": (-1,)}, {"x": (7,)})
    async with Model("m", [engine], BatchingConfig(max_batch_rows=4), warm_up=shapes):
        assert set(engine.sizes) == {1, 4, 7}
