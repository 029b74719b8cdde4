"""Requests of many shapes: padded to common lengths, counted by cost, filled up to allowed rows."""

import asyncio
import random
from typing import Any

import numpy as np
import pytest

from serving.engines.allowed_rows import AllowedRows
from serving.engines.engine import Arrays
from serving.errors import InvalidRequestError
from serving.models.padding import Padding
from serving.models.shaped import ShapedModel
from serving.scheduling.scheduler import BatchingConfig
from tests.serving.oip.requests import Copies, spec

PADDING = Padding((4, 8, 16), {"ids": 0, "mask": 0}, ("ids_out", "mask_out"))
IDS = (spec("ids", "INT64", -1, -1), spec("mask", "INT64", -1, -1), spec("user", "FP32", -1, 1))


class Watched(Copies):
    """Copies its inputs, and remembers the shape of the ids of each call."""

    def __init__(self) -> None:
        super().__init__(*IDS)
        self.shapes: list[tuple[int, ...]] = []

    def infer(self, inputs: Arrays) -> dict[str, Any]:
        self.shapes.append(inputs["ids"].shape)
        return super().infer(inputs)


def texts(rows: int, length: int, seed: int = 0) -> dict[str, Any]:
    ids = np.random.default_rng(seed).integers(1, 99, (rows, length))
    users = np.full((rows, 1), seed, np.float32)
    return {"ids": ids, "mask": np.ones_like(ids), "user": users}


def model(engine: Any, *, max_cost: float = 64, padding: Padding | None = PADDING) -> ShapedModel:
    limits = BatchingConfig(max_batch_rows=8, max_batch_cost=max_cost)
    return ShapedModel("text", [engine], limits, warm_up=(), padding=padding, cost_of="ids")


@pytest.mark.parametrize(("length", "edge"), [(1, 4), (4, 4), (5, 8), (16, 16), (17, 17), (0, 4)])
def test_lengths_are_padded_to_the_next_edge_and_cut_back(length: int, edge: int) -> None:
    inputs = texts(2, length)
    padded = PADDING.pad(inputs, PADDING.length(inputs))
    assert padded["ids"].shape == padded["mask"].shape == (2, edge)
    assert padded["user"] is inputs["user"]
    assert padded["mask"].sum() == 2 * length
    outputs = {f"{name}_out": array for name, array in padded.items()}
    cut = PADDING.cut(outputs, length)
    np.testing.assert_array_equal(cut["ids_out"], inputs["ids"])
    np.testing.assert_array_equal(cut["user_out"], inputs["user"])


def test_inputs_of_unlike_lengths_are_the_callers_mistake() -> None:
    inputs = {**texts(1, 3), "mask": np.ones((1, 4), np.int64)}
    with pytest.raises(InvalidRequestError, match=r"inputs\[mask\].shape is 4, as long as ids, 3"):
        PADDING.length(inputs)


@pytest.mark.parametrize("lengths", [(), (0, 4), (8, 4), (4, 4)])
def test_edges_must_ascend(lengths: tuple[int, ...]) -> None:
    with pytest.raises(ValueError, match="ascending from 1"):
        Padding(lengths, {"ids": 0})


async def test_different_lengths_share_a_batch_and_get_their_own_back() -> None:
    engine = Watched()
    async with model(engine) as served:
        requests = [texts(1, length, length) for length in (1, 2, 3, 4, 3)]
        answers = await asyncio.gather(*(served.infer(inputs) for inputs in requests))
    assert engine.shapes == [(5, 4)]
    for inputs, answer in zip(requests, answers, strict=True):
        for name, array in inputs.items():
            np.testing.assert_array_equal(answer[f"{name}_out"], array)


async def test_a_batch_costs_no_more_than_it_may() -> None:
    engine = Watched()
    async with model(engine, max_cost=32) as served:
        await asyncio.gather(*(served.infer(texts(1, 16, seed)) for seed in range(5)))
    assert [rows for rows, _ in engine.shapes] == [2, 2, 1]


async def test_a_request_above_the_cost_of_a_batch_is_split_and_answered_whole() -> None:
    engine = Watched()
    inputs = texts(7, 16)
    async with model(engine, max_cost=32) as served:
        answer = await served.infer(inputs)
    assert [rows for rows, _ in engine.shapes] == [2, 2, 2, 1]
    np.testing.assert_array_equal(answer["ids_out"], inputs["ids"])


async def test_a_row_above_the_cost_of_a_batch_runs_alone() -> None:
    engine = Watched()
    async with model(engine, max_cost=10) as served:
        await asyncio.gather(*(served.infer(texts(1, 16, seed)) for seed in range(2)))
    assert engine.shapes == [(1, 16), (1, 16)]


async def crowd(seed: int) -> None:
    """Many callers with texts of any length: each gets its own, no call is too large."""
    source = random.Random(seed)
    engine, allowed = Watched(), (1, 2, 4, 8)
    max_cost = source.choice([16, 32, 100])
    async with model(AllowedRows(engine, allowed), max_cost=max_cost) as served:
        requests = [
            texts(source.randint(1, 12), source.randint(0, 20), at)
            for at in range(source.randint(1, 30))
        ]
        answers = await asyncio.gather(*(served.infer(inputs) for inputs in requests))
    for inputs, answer in zip(requests, answers, strict=True):
        for name, array in inputs.items():
            np.testing.assert_array_equal(answer[f"{name}_out"], array)
    for rows, length in engine.shapes:
        assert rows in allowed
        assert length in (*PADDING.lengths, *range(17, 21))
        filled = rows // 2 + 1 if rows > 1 else 1  # what the batch held at least
        assert filled == 1 or filled * length <= max_cost


async def test_crowds_of_all_lengths_are_answered_within_the_limits() -> None:
    for seed in range(40):
        await crowd(seed)
