"""Rows of several requests in one engine call: joined, run, parted again.

Everything here runs on an instance's thread.
"""

import time
from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from serving.engines.engine import Arrays, Engine
from serving.errors import EngineError

Outputs = dict[str, NDArray[Any]]
Calls = list[tuple[int, float]]  # rows and seconds of each engine call
_KEPT_BYTES = (2**12, 2**22)  # of joined rows: less numpy copies at once, more would take too long


class Rows:
    """The arrays of one request, or of one batch-sized part of it."""

    __slots__ = ("arrays", "bucket", "rows")

    def __init__(self, arrays: Arrays, rows: int) -> None:
        self.arrays, self.rows = arrays, rows
        self.bucket = tuple([array.shape[1:] for array in arrays.values()])  # these may share one


def run_batch(engine: Engine, items: list[Rows], limit: int) -> tuple[list[Outputs], Calls]:
    """Joins the rows, runs them and parts them again; on the instance's thread.

    Also returns the rows and seconds of each engine call.
    """
    calls: Calls = []
    if len(items) == 1:
        return [_run_one(engine, items[0], limit, calls)], calls
    joined = {name: _joined([item.arrays[name] for item in items]) for name in items[0].arrays}
    rows = sum(item.rows for item in items)
    outputs = _timed(engine, joined, rows, calls)
    _check_rows(outputs, rows)
    parted, start = [], 0
    for item in items:
        end = start + item.rows
        parted.append({name: array[start:end] for name, array in outputs.items()})
        start = end
    return parted, calls


def _joined(arrays: list[NDArray[Any]]) -> NDArray[Any]:
    """Returns the rows of several arrays in one.

    numpy gives the interpreter away while it copies .2 ms of pictures, and has it back when a busy
    event loop gives it: the engine idles for 1 ms. Here it is kept.
    """
    first, size = arrays[0], sum(array.nbytes for array in arrays)
    is_plain = all(a.flags.c_contiguous and a.dtype == first.dtype for a in arrays)
    if not _KEPT_BYTES[0] <= size <= _KEPT_BYTES[1] or first.dtype.hasobject or not is_plain:
        return np.concatenate(arrays)
    joined = np.empty((sum(len(array) for array in arrays), *first.shape[1:]), first.dtype)
    target, at = _bytes(joined), 0
    for array in arrays:
        target[at : (at := at + array.nbytes)] = _bytes(array)
    return joined


def _bytes(array: NDArray[Any]) -> memoryview:
    return array.reshape(-1).view(np.uint8).data


def _run_one(engine: Engine, item: Rows, limit: int, calls: Calls) -> Outputs:
    """Runs one request, in slices when it was queued before out-of-memory lowered the limit."""
    if item.rows <= limit:
        return _timed(engine, item.arrays, item.rows, calls)
    parts = []
    for at in range(0, item.rows, limit):
        arrays = {n: a[at : at + limit] for n, a in item.arrays.items()}
        parts.append(_timed(engine, arrays, min(limit, item.rows - at), calls))
    return concatenate(parts)


def _timed(engine: Engine, inputs: Arrays, rows: int, calls: Calls) -> Outputs:
    start = time.perf_counter()
    outputs = engine.infer(inputs)
    calls.append((rows, time.perf_counter() - start))
    return outputs


def _check_rows(outputs: Outputs, rows: int) -> None:
    """Refuses to part what has no row for each row that went in: callers would swap answers."""
    for name, array in outputs.items():
        if array.shape[:1] != (rows,):
            raise EngineError(f"output {name} has shape {array.shape} for {rows} rows")


def concatenate(parts: Sequence[Outputs]) -> Outputs:
    return {name: np.concatenate([part[name] for part in parts]) for name in parts[0]}
