"""The batch-invariance gate: an answer alone is the answer in any batch, within a tolerance.

A model breaks it when rows are mixed: a statistic over the batch, padding that leaks into shorter
rows, one scale for a whole quantised batch. Its callers would then get answers that depend on
strangers. The gate is given whatever turns several items into as many answers, so that padding
done before the model is examined too.
"""

import math
import random
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, TypeVar

import numpy as np
from numpy.typing import NDArray

from serving.engines.engine import Arrays, Engine
from serving.engines.ragged import RaggedEngine
from serving.models.ragged import RaggedRows, run_ragged
from serving.models.rows import Rows, run_batch

Item = TypeVar("Item")
Answer = Mapping[str, NDArray[Any]]
Run = Callable[[Sequence[Item]], Sequence[Answer]]


class InvarianceError(Exception):
    """An answer depends on its batch mates; the text names the worst case."""


@dataclass(frozen=True, slots=True)
class Difference:
    """The largest absolute difference found between an answer alone and in a batch."""

    value: float = 0.0  # inf where shapes, texts or NaN differ
    output: str = ""
    item: int = -1  # index of the item
    batch: tuple[int, ...] = ()  # indices of the batch it was in, in their order

    def __str__(self) -> str:
        return f"{self.output} of item {self.item} differs by {self.value:g} in batch {self.batch}"


def check_invariance(
    run: Run[Item],
    items: Sequence[Item],
    *,
    tolerance: float,
    max_batch_rows: int,
    rounds: int = 4,
    seed: int = 0,
) -> Difference:
    """Returns the largest difference; raises `InvarianceError` when it is above `tolerance`.

    Each of the items, which should differ in all that items may differ in, is run alone, then
    `rounds` times in shuffled batches of 2, 3 and `max_batch_rows` items.
    """
    alone = [run([item])[0] for item in items]
    worst = Difference()
    for batch in _batches(len(items), max_batch_rows, rounds, random.Random(seed)):
        answers = run([items[index] for index in batch])
        for index, answer in zip(batch, answers, strict=True):
            for name, expected in alone[index].items():
                value = _difference(expected, answer[name])
                if value > worst.value:
                    worst = Difference(value, name, index, batch)
    if worst.value > tolerance:
        raise InvarianceError(f"{worst}, tolerance {tolerance:g}")
    return worst


def rows_of(engine: Engine) -> Run[Arrays]:
    """Returns what runs inputs through `engine` as the batcher would.

    They have one shape, or, if the engine is ragged, any lengths.
    """

    def run(items: Sequence[Arrays]) -> Sequence[Answer]:
        counts = [len(next(iter(item.values()))) for item in items]
        sized = list(zip(items, counts, strict=True))
        if isinstance(engine, RaggedEngine):
            ragged = engine.ragged
            return run_ragged(engine, [RaggedRows(*item, ragged) for item in sized])[0]
        return run_batch(engine, [Rows(*item) for item in sized], limit=sum(counts))[0]

    return run


def _batches(
    count: int, max_rows: int, rounds: int, chance: random.Random
) -> Iterator[tuple[int, ...]]:
    sizes = sorted({min(size, max_rows, count) for size in (2, 3, max_rows)} - {0, 1})
    for size in sizes:
        for _ in range(rounds):
            order = chance.sample(range(count), count)
            order += order[: -count % size]  # the last batch is full as well
            for start in range(0, len(order), size):
                yield tuple(order[start : start + size])


def _difference(one: NDArray[Any], other: NDArray[Any]) -> float:
    if one.shape != other.shape:
        return math.inf
    if one.dtype.kind not in "fiu":
        return 0.0 if np.array_equal(one, other) else math.inf
    if not one.size:
        return 0.0
    wide, wide_other = one.astype(np.float64), other.astype(np.float64)
    same = (wide == wide_other) | (np.isnan(wide) & np.isnan(wide_other))
    with np.errstate(invalid="ignore"):
        gaps = np.where(same, 0.0, np.abs(wide - wide_other))
    return float(np.where(np.isnan(gaps), math.inf, gaps).max())
