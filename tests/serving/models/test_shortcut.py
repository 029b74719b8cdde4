import threading
import time
from typing import Any

import numpy as np

from serving.engines.engine import Arrays, TensorSpec
from serving.models.model import Model
from serving.models.shortcut import HAND_OVER_S
from serving.scheduling.scheduler import BatchingConfig

X = np.ones((1, 2), np.float32)


class Watched:
    """An engine that takes at least `seconds`, and remembers the threads that called it.

    On another thread than its maker's it takes `longer_s` more.
    """

    inputs = (TensorSpec("x", np.dtype(np.float32), (-1, 2)),)
    outputs = (TensorSpec("y", np.dtype(np.float32), (-1, 2)),)

    def __init__(self, seconds: float, *, is_movable: bool = True) -> None:
        self.seconds, self.is_movable = seconds, is_movable
        self.threads, self.longer_s = list[int](), 0.0
        self._here = threading.get_ident()

    def infer(self, inputs: Arrays) -> dict[str, Any]:
        self.threads.append(threading.get_ident())
        is_here = threading.get_ident() == self._here
        end = time.perf_counter() + self.seconds + (0.0 if is_here else self.longer_s)
        while time.perf_counter() < end:
            pass
        return {"y": inputs["x"] * 2}


async def threads_of(engine: Watched, calls: int) -> list[int]:
    async with Model("watched", [engine], BatchingConfig()) as model:
        engine.threads.clear()
        for _ in range(calls):
            np.testing.assert_array_equal((await model.infer({"x": X}))["y"], 2 * X)
    return engine.threads


async def test_calls_shorter_than_the_way_to_a_thread_stay_on_the_event_loop() -> None:
    here = threading.get_ident()
    assert here in await threads_of(Watched(0.0), calls=20)


async def test_longer_calls_are_made_by_the_instances_thread() -> None:
    threads = await threads_of(Watched(3 * HAND_OVER_S), calls=20)
    # A stall in the warm-up's largest batch makes its line steep and a single row seem short, until
    # four calls in a row have shown that it is not.
    assert threading.get_ident() not in threads[4:]


async def test_an_engine_that_belongs_to_its_thread_stays_there() -> None:
    engine = Watched(0.0, is_movable=False)
    assert threading.get_ident() not in await threads_of(engine, calls=20)


async def test_an_engine_that_became_slow_leaves_the_event_loop() -> None:
    engine = Watched(0.0)
    async with Model("watched", [engine], BatchingConfig()) as model:
        engine.seconds = 20 * HAND_OVER_S
        for _ in range(20):
            await model.infer({"x": X})
        engine.threads.clear()
        await model.infer({"x": X})
    assert engine.threads != [threading.get_ident()]


async def test_an_engine_that_is_slow_on_its_thread_only_comes_back_to_the_event_loop() -> None:
    engine = Watched(0.0)
    async with Model("watched", [engine], BatchingConfig()) as model:
        engine.seconds, engine.longer_s = 2 * HAND_OVER_S, 2 * HAND_OVER_S
        for _ in range(20):
            await model.infer({"x": X})
        engine.seconds = 0.0
        for _ in range(400):
            await model.infer({"x": X})
        engine.threads.clear()
        await model.infer({"x": X})
    assert engine.threads == [threading.get_ident()]


async def test_an_engine_that_would_hold_up_the_event_loop_is_not_tried_there() -> None:
    engine = Watched(20 * HAND_OVER_S)
    assert threading.get_ident() not in (await threads_of(engine, calls=100))[4:]


async def test_engine_calls_are_counted_either_way() -> None:
    for seconds in (0.0, 3 * HAND_OVER_S):
        async with Model("watched", [Watched(seconds)], BatchingConfig()) as model:
            for _ in range(3):
                await model.infer({"x": X})
            assert model.statistics.call_count == 3
