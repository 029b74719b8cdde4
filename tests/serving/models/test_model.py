import asyncio
import random
import threading
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from fomofeed.type.v1 import type_pb2
from serving import request
from serving.engines.engine import Arrays, TensorSpec
from serving.engines.onnx import OnnxEngine
from serving.errors import EngineError
from serving.models.model import Model
from serving.scheduling.instances import BatchTooLargeError
from serving.scheduling.scheduler import BatchingConfig
from tests.serving.tiny_models import write_linear


class SmallDevice:
    """An engine that doubles its rows, and has memory for `memory` of them at once."""

    inputs = (TensorSpec("x", np.dtype(np.float32), (-1, 2)),)
    outputs = (TensorSpec("y", np.dtype(np.float32), (-1, 2)),)

    def __init__(self, memory: int) -> None:
        self.memory, self.rows = memory, list[int]()

    def infer(self, inputs: Arrays) -> dict[str, Any]:
        x = inputs["x"]
        self.rows.append(len(x))
        if len(x) > self.memory:
            raise BatchTooLargeError
        return {"y": x * 2}


def linear(tmp_path: Path, rows: int = 4, **options: Any) -> Model:
    engine = OnnxEngine(write_linear(tmp_path / "model.onnx", **options))
    return Model("linear", [engine], BatchingConfig(max_batch_rows=rows))


def rows_of(count: int, start: int = 0) -> Any:
    return np.arange(start, start + count * 3, dtype=np.float32).reshape(count, 3)


async def test_callers_that_share_a_batch_get_their_own_rows(tmp_path: Path) -> None:
    async with linear(tmp_path, rows=32) as model:
        xs = [rows_of(1 + i % 3, start=i * 100) for i in range(20)]
        answers = await asyncio.gather(*(model.infer({"x": x}) for x in xs))
    for x, answer in zip(xs, answers, strict=True):
        np.testing.assert_allclose(answer["y"], 2 * x + 1)


async def test_an_instance_goes_on_while_the_event_loop_is_busy() -> None:
    third = threading.Event()

    class Watched(SmallDevice):
        def infer(self, inputs: Arrays) -> dict[str, Any]:
            outputs = super().infer(inputs)
            if len(self.rows) == 3:
                third.set()
            return outputs

    engine = Watched(memory=8)
    async with Model("busy", [engine], BatchingConfig(max_batch_rows=1), warm_up=()) as model:
        calls = [asyncio.create_task(model.infer({"x": np.full((1, 2), n)})) for n in range(4)]
        await asyncio.sleep(0)  # they are queued, and the first is handed over in the next turn
        await asyncio.sleep(0)
        await asyncio.sleep(0)
        assert third.wait(5)  # nobody hears of the first two: the event loop waits here
        answers = await asyncio.gather(*calls)
    assert [answer["y"][0, 0] for answer in answers] == [0, 2, 4, 6]


async def test_callers_who_leave_cost_nobody_his_answer(tmp_path: Path) -> None:
    engines = [OnnxEngine(write_linear(tmp_path / f"{n}.onnx")) for n in range(2)]
    source = random.Random(1)
    async with Model("linear", engines, BatchingConfig(max_batch_rows=4)) as model:
        xs = [rows_of(source.randint(1, 3), start=i * 10) for i in range(400)]
        calls = [asyncio.create_task(model.infer({"x": x})) for x in xs]
        left = {i for i in range(400) if source.random() < 0.3}
        for i in left:
            await asyncio.sleep(0)
            calls[i].cancel()
        outcomes = await asyncio.gather(*calls, return_exceptions=True)
        assert model.batcher.scheduler.queue.rows == 0
    for i, (x, outcome) in enumerate(zip(xs, outcomes, strict=True)):
        if not isinstance(outcome, BaseException):
            np.testing.assert_allclose(outcome["y"], 2 * x + 1)
        else:
            assert i in left


async def test_more_rows_than_a_batch_are_split_and_answered_whole(tmp_path: Path) -> None:
    async with linear(tmp_path, rows=4) as model:
        x = rows_of(11)
        np.testing.assert_allclose((await model.infer({"x": x}))["y"], 2 * x + 1)


async def test_model_with_a_fixed_batch_is_never_batched(tmp_path: Path) -> None:
    async with linear(tmp_path, batched=False) as model:
        answers = await asyncio.gather(*(model.infer({"x": rows_of(1, i)}) for i in range(3)))
    assert [answer["y"][0, 0] for answer in answers] == [1, 3, 5]


async def test_empty_batch_is_answered_empty(tmp_path: Path) -> None:
    async with linear(tmp_path) as model:
        assert (await model.infer({"x": rows_of(0)}))["y"].shape == (0, 3)


async def test_service_time_is_known_before_the_first_caller(tmp_path: Path) -> None:
    async with linear(tmp_path) as model:
        assert model.batcher.scheduler.service_time.predict(((3,),), 1) > 0


async def test_out_of_memory_on_one_large_request_is_sliced_and_remembered() -> None:
    device = SmallDevice(memory=5)
    async with Model("small", [device], BatchingConfig(max_batch_rows=16)) as model:
        device.rows.clear()
        x = np.ones((16, 2), np.float32)
        np.testing.assert_allclose((await model.infer({"x": x}))["y"], 2 * x)
        await model.infer({"x": x})
    assert device.rows == [16, 8, 4, 4, 4, 4, 4, 4, 4, 4]


async def test_out_of_memory_for_one_shape_limits_no_other() -> None:
    class ByElements(SmallDevice):
        inputs = (TensorSpec("x", np.dtype(np.float32), (-1, -1)),)
        outputs = (TensorSpec("y", np.dtype(np.float32), (-1, -1)),)

        def infer(self, inputs: Arrays) -> dict[str, Any]:
            if inputs["x"].size > 100:
                raise BatchTooLargeError
            return super().infer(inputs)

    device = ByElements(memory=100)
    async with Model("small", [device], BatchingConfig(max_batch_rows=16)) as model:
        with pytest.raises(EngineError, match="out of memory"):
            await model.infer({"x": np.ones((1, 101), np.float32)})
        device.rows.clear()
        x = np.ones((1, 2), np.float32)
        await asyncio.gather(*(model.infer({"x": x}) for _ in range(16)))
    assert device.rows == [16]


async def test_no_memory_for_a_single_row_is_an_error() -> None:
    device = SmallDevice(memory=5)
    async with Model("small", [device], BatchingConfig(max_batch_rows=16)) as model:
        device.memory = 0
        with pytest.raises(EngineError, match="out of memory"):
            await model.infer({"x": np.ones((1, 2), np.float32)})


async def test_ledger_names_model_and_compute_time(tmp_path: Path) -> None:
    facts = request.CallFacts()
    request.enter(facts)
    async with linear(tmp_path) as model:
        await model.infer({"x": rows_of(2)})
    assert facts.ledger.model == type_pb2.ModelRef(model="linear")
    assert facts.ledger.batch_rows == 2
    assert facts.ledger.compute_s > 0
