"""Requests of any length in one engine call, one after the other, and each gets its own back."""

import asyncio
import random
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from serving.engines.engine import Arrays
from serving.engines.ragged import Ragged, RaggedEngine
from serving.errors import EngineError, InvalidRequestError
from serving.models.ragged import RaggedModel
from serving.models.repository import Repository
from serving.scheduling.instances import BatchTooLargeError
from serving.scheduling.scheduler import BatchingConfig
from tests.serving.models.linear_repository import index_of
from tests.serving.oip.requests import spec
from tests.serving.tiny_models import write_ragged

ENDS = {"ends": "accumulated_element_count"}
RAGGED = Ragged(("ids", "kinds"), ENDS, ("each",))
OPTIONS = "{inputs: [ids], batch_inputs: {ends: accumulated_element_count}, outputs: [each]}"


class Sums:
    """The sum of each row's ids plus its user, and each id beside the square of its kind."""

    inputs = (
        spec("ids", "INT64", -1),
        spec("kinds", "INT64", -1, 2),
        spec("user", "INT64", -1, 1),
        spec("ends", "INT32", -1),
    )
    outputs = (spec("sum", "INT64", -1), spec("each", "INT64", -1, 3))

    def __init__(self, memory: int = 10**6) -> None:
        self.memory, self.calls = memory, list[tuple[int, int]]()  # rows and elements of each call

    def infer(self, inputs: Arrays) -> dict[str, Any]:
        ids, ends = inputs["ids"], inputs["ends"]
        assert ends.dtype == np.int32
        self.calls.append((len(ends), len(ids)))
        if len(ids) > self.memory:
            raise BatchTooLargeError
        rows = np.split(ids, ends[:-1])
        sums = np.array([row.sum() for row in rows]) + inputs["user"][:, 0]
        return {"sum": sums, "each": np.column_stack([ids, inputs["kinds"] ** 2])}


def served(engine: Any, *, elements: int = 64, rows: int = 8) -> RaggedModel:
    limits = BatchingConfig(max_batch_rows=rows, max_batch_cost=elements)
    return RaggedModel("text", [RaggedEngine(engine, RAGGED)], limits, warm_up=())


def texts(rows: int, length: int, seed: int = 0) -> dict[str, Any]:
    source = np.random.default_rng(seed)
    shape = (rows, length)
    return {
        "ids": source.integers(1, 99, shape),
        "kinds": source.integers(0, 9, (*shape, 2)),
        "user": np.full((rows, 1), seed),
    }


def expect(inputs: Mapping[str, Any], answer: Mapping[str, Any]) -> None:
    np.testing.assert_array_equal(answer["sum"], inputs["ids"].sum(1) + inputs["user"][:, 0])
    ids, kinds = inputs["ids"][..., None], inputs["kinds"]
    np.testing.assert_array_equal(answer["each"], np.concatenate([ids, kinds**2], axis=2))


async def ask(model: RaggedModel, requests: list[dict[str, Any]]) -> None:
    answers = await asyncio.gather(*(model.infer(inputs) for inputs in requests))
    for inputs, answer in zip(requests, answers, strict=True):
        expect(inputs, answer)


@pytest.mark.parametrize(
    ("kind", "made"),
    [
        ("element_count", [3, 0, 2]),
        ("accumulated_element_count", [3, 3, 5]),
        ("accumulated_element_count_with_zero", [0, 3, 3, 5]),
    ],
)
def test_the_engine_is_told_where_rows_are_in_the_way_it_asks_for(
    kind: str, made: list[int]
) -> None:
    seen = dict[str, Any]()

    class Told:
        inputs = (spec("ids", "INT64", -1), spec("places", "FP32", -1))
        outputs = ()

        def infer(self, inputs: Arrays) -> dict[str, Any]:
            seen.update(inputs)
            return {}

    engine = RaggedEngine(Told(), Ragged(("ids",), {"places": kind}))
    engine.infer_flat({"ids": np.arange(5)}, np.array([3, 0, 2]))
    assert seen["places"].tolist() == made
    assert seen["places"].dtype == np.float32


def test_callers_see_rows_and_not_what_is_made_for_the_engine() -> None:
    engine = RaggedEngine(Sums(), RAGGED)
    assert [(s.name, s.shape) for s in engine.inputs] == [
        ("ids", (-1, -1)),
        ("kinds", (-1, -1, 2)),
        ("user", (-1, 1)),
    ]
    assert [(s.name, s.shape) for s in engine.outputs] == [("sum", (-1,)), ("each", (-1, -1, 3))]


async def test_different_lengths_share_a_batch_and_get_their_own_back() -> None:
    engine = Sums()
    async with served(engine) as model:
        await ask(model, [texts(1, length, length) for length in (1, 7, 0, 16, 3)])
        await ask(model, [texts(2, 4, 1), texts(3, 1, 2), texts(0, 5, 3)])
    assert engine.calls == [(5, 27), (5, 11)]


async def test_no_rows_are_answered_without_the_engine() -> None:
    engine = Sums()
    async with served(engine) as model:
        await ask(model, [texts(0, 5), texts(0, 0)])
    assert engine.calls == []


async def test_an_engine_that_adds_a_row_to_one_alone_is_an_error() -> None:
    class Wrong(Sums):
        def infer(self, inputs: Arrays) -> dict[str, Any]:
            outputs = super().infer(inputs)
            return {**outputs, "sum": np.append(outputs["sum"], 0)}

    async with served(Wrong()) as model:
        with pytest.raises(EngineError, match=r"output sum has shape \(2,\) for 1 rows"):
            await model.infer(texts(1, 3))


async def test_a_batch_has_no_more_elements_than_it_may() -> None:
    engine = Sums()
    async with served(engine, elements=20) as model:
        await ask(model, [texts(1, length) for length in (9, 9, 9, 2, 21)])
        await ask(model, [texts(5, 8)])  # split, and answered whole
    assert engine.calls == [(2, 18), (2, 11), (1, 21), (2, 16), (2, 16), (1, 8)]


async def test_a_batch_has_no_more_rows_than_it_may() -> None:
    engine = Sums()
    async with served(engine, rows=3) as model:
        await ask(model, [texts(1, 1, seed) for seed in range(7)])
    assert [rows for rows, _ in engine.calls] == [3, 3, 1]


async def crowd(seed: int) -> None:
    """Many callers with texts of any length: each gets its own, no call is too large."""
    source = random.Random(seed)
    elements, memory = source.choice([16, 32, 100]), source.choice([10**6, 10**6, 40])
    engine = Sums(memory)
    async with served(engine, elements=elements) as model:
        sizes = [
            (source.randint(0, 12), source.randint(0, 20)) for _ in range(source.randint(1, 30))
        ]
        await ask(model, [texts(*size, seed=at) for at, size in enumerate(sizes)])
    for rows, count in engine.calls:
        assert rows <= 8
        assert count <= elements or rows == 1


async def test_crowds_of_all_lengths_are_answered_within_the_limits() -> None:
    for seed in range(40):
        await crowd(seed)


async def test_out_of_memory_halves_the_elements_and_nobody_notices() -> None:
    engine = Sums(memory=25)
    async with served(engine) as model:
        await ask(model, [texts(1, 10, seed) for seed in range(6)])
        learned = len(engine.calls)
        await ask(model, [texts(1, 10, seed) for seed in range(6)])
        await ask(model, [texts(1, 2, seed) for seed in range(6)])
        await ask(model, [texts(3, 10)])  # in slices of what fits
    assert engine.calls[learned:] == [(1, 10)] * 6 + [(6, 12)] + [(1, 10)] * 3


async def test_unlike_lengths_are_the_callers_mistake() -> None:
    async with served(Sums()) as model:
        with pytest.raises(InvalidRequestError, match=r"inputs\[kinds\].shape is 4, as long as"):
            await model.infer({**texts(1, 3), "kinds": np.ones((1, 4, 2), np.int64)})
        await ask(model, [texts(1, 3)])


@pytest.mark.parametrize("name", ["sum", "each"])
@pytest.mark.parametrize("rows", [slice(1, None), [0, *range(2)], [0, *range(5)]])
async def test_an_engine_that_loses_or_adds_a_row_or_an_element_swaps_no_answers(
    name: str, rows: Any
) -> None:
    class Wrong(Sums):
        def infer(self, inputs: Arrays) -> dict[str, Any]:
            outputs = super().infer(inputs)
            is_alone = len(inputs["ends"]) == 1  # then it answers right
            fits = isinstance(rows, slice) or len(rows) == len(outputs[name]) + 1
            return outputs if is_alone or not fits else {**outputs, name: outputs[name][rows]}

    async with served(Wrong()) as model:
        requests = [texts(1, 2, 1), texts(1, 3, 2)]
        answers = await asyncio.gather(
            *(model.infer(inputs) for inputs in requests), return_exceptions=True
        )
    for inputs, answer in zip(requests, answers, strict=True):
        if not isinstance(answer, EngineError):
            expect(inputs, answer)


async def test_time_is_learned_by_elements() -> None:
    async with served(Sums()) as model:
        await ask(model, [texts(2, 30)])
        times = model.batcher.scheduler.service_time
        ((_, line),) = list(times)
        assert line.predict(60) > 0
        assert (line.a, line.b * 60) == pytest.approx((0.0, line.predict(60)))


def put(root: Path, options: str, *, leaks: bool = False) -> None:
    write_ragged(root / "text" / "1" / "model.onnx", leaks=leaks)
    (root / "text" / "model.yaml").write_text(f"ragged: {options}")


@pytest.mark.parametrize("engine", ["onnx", "auto"])
async def test_a_repository_serves_a_model_made_for_it(tmp_path: Path, engine: str) -> None:
    put(tmp_path, f"{OPTIONS}\nengine: {engine}")
    async with Repository(tmp_path) as repository:
        with repository.find("text") as found:
            lengths = (3, 1, 5)
            requests = [{"ids": np.arange(length)[None] + 1} for length in lengths]
            answers = await asyncio.gather(*(found.model.infer(ids) for ids in requests))
    for length, answer in zip(lengths, answers, strict=True):
        assert answer["sum"].tolist() == [length * (length + 1) // 2]
        assert answer["each"].tolist() == [[2 * (at + 1) for at in range(length)]]


@pytest.mark.parametrize(
    ("options", "reason"),
    [
        (OPTIONS.replace("[ids]", "[words]"), "ragged.inputs.words is none whose first dimension"),
        (OPTIONS.replace("ends:", "begins:"), "ragged.batch_inputs.begins is none whose first"),
        (OPTIONS.replace("[each]", "[all]"), "ragged.outputs.all is none whose first dimension"),
        (OPTIONS.replace("accumulated_", "every_"), "expected element_count or accumulated_ele"),
        ("{batch_inputs: {ends: element_count}}", "ragged needs inputs and batch_inputs"),
        ("{inputs: [ids]}", "ragged.batch_inputs is None, expected a kind for each input"),
        (f"{OPTIONS}\nbatching: {{allowed_rows: [1, 2]}}", "ragged leaves nothing to padding"),
        (f"{OPTIONS}\npadding: {{lengths: [4], inputs: {{ids: 0}}}}", "ragged leaves nothing to"),
        (OPTIONS.replace("accumulated_element", "element"), "does not run on|leak into output sum"),
    ],
)
async def test_what_does_not_fit_the_model_does_not_load(
    tmp_path: Path, options: str, reason: str
) -> None:
    put(tmp_path, options)
    async with Repository(tmp_path) as repository:
        told = str(await index_of(repository))
        assert any(part in told for part in reason.split("|"))


async def test_a_model_that_mixes_rows_does_not_load(tmp_path: Path) -> None:
    put(tmp_path, OPTIONS, leaks=True)
    async with Repository(tmp_path) as repository:
        _, told = (await index_of(repository))["text", "1"]
        assert told == "rows of other lengths leak into output each"
