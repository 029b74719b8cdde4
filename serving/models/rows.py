"""Rows of several requests in one engine call: joined, run, parted again.

Everything here runs on an instance's thread.
"""

import time
from collections.abc import Callable, Sequence
from functools import partial
from typing import Any

import numpy as np
from numpy.typing import NDArray

from serving.engines.engine import Arrays, Engine
from serving.errors import EngineError

Outputs = dict[str, NDArray[Any]]
Calls = list[tuple[int, int, float]]  # rows, work and seconds of each engine call
_KEPT_BYTES = (2**12, 2**22)  # of joined rows: less numpy copies at once, more would take too long


class Rows:
    """The arrays of one request, or of one batch-sized part of it.

    `work` is what the engine's time grows with: the rows, unless a model counts otherwise.
    """

    __slots__ = ("arrays", "bucket", "rows", "work")

    def __init__(self, arrays: Arrays, rows: int) -> None:
        self.arrays, self.rows, self.work = arrays, rows, rows
        self.bucket = tuple([array.shape[1:] for array in arrays.values()])  # these may share one


def run_batch(engine: Engine, items: list[Rows], limit: int) -> tuple[list[Outputs], Calls]:
    """Joins the rows, runs them and parts them again; on the instance's thread.

    Also returns the rows, work and seconds of each engine call.
    """
    calls: Calls = []
    if len(items) == 1:
        return [_run_one(engine, items[0], limit, calls)], calls
    arrays = {name: joined([item.arrays[name] for item in items]) for name in items[0].arrays}
    rows = sum(item.rows for item in items)
    outputs = timed(lambda: engine.infer(arrays), rows, rows, calls)
    check_rows(outputs, rows)
    parted, start = [], 0
    for item in items:
        end = start + item.rows
        parted.append({name: array[start:end] for name, array in outputs.items()})
        start = end
    return parted, calls


def joined(arrays: list[NDArray[Any]]) -> NDArray[Any]:
    """Returns the rows of several arrays in one.

    numpy gives the interpreter away while it copies .2 ms of pictures, and has it back when a busy
    event loop gives it: the engine idles for 1 ms. Here it is kept.
    """
    first, size = arrays[0], sum(array.nbytes for array in arrays)
    is_plain = all(a.flags.c_contiguous and a.dtype == first.dtype for a in arrays)
    if not _KEPT_BYTES[0] <= size <= _KEPT_BYTES[1] or first.dtype.hasobject or not is_plain:
        return np.concatenate(arrays)
    together = np.empty((sum(len(array) for array in arrays), *first.shape[1:]), first.dtype)
    target, at = _bytes(together), 0
    for array in arrays:
        target[at : (at := at + array.nbytes)] = _bytes(array)
    return together


def _bytes(array: NDArray[Any]) -> memoryview:
    return array.reshape(-1).view(np.uint8).data


def _run_one(engine: Engine, item: Rows, limit: int, calls: Calls) -> Outputs:
    """Runs one request, in slices when it was queued before out-of-memory lowered the limit."""
    if item.rows <= limit:
        return timed(lambda: engine.infer(item.arrays), item.rows, item.work, calls)
    parts = []
    for at in range(0, item.rows, limit):
        arrays = {n: a[at : at + limit] for n, a in item.arrays.items()}
        rows = min(limit, item.rows - at)
        work = item.work * rows // item.rows
        parts.append(timed(partial(engine.infer, arrays), rows, work, calls))
    return concatenate(parts)


def timed(infer: Callable[[], Outputs], rows: int, work: int, calls: Calls) -> Outputs:
    """Returns what `infer` does, and adds to `calls` what it was of and how long it took."""
    start = time.perf_counter()
    outputs = infer()
    calls.append((rows, work, time.perf_counter() - start))
    return outputs


def check_rows(outputs: Outputs, rows: int) -> None:
    """Refuses to part what has no row for each row that went in: callers would swap answers."""
    for name, array in outputs.items():
        if array.shape[:1] != (rows,):
            raise EngineError(f"output {name} has shape {array.shape} for {rows} rows")


def concatenate(parts: Sequence[Outputs]) -> Outputs:
    return {name: np.concatenate([part[name] for part in parts]) for name in parts[0]}
