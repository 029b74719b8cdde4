"""The engine alone: its best offline loop, as a process beside the same client load.

`python -m bench.rivals.offline FILE.onnx --seconds S` prints the rows a second of the best of some
batch sizes; each size gets an equal share of the time, in turns.
"""

import argparse
import time
from pathlib import Path

from serving.engines.engine import Arrays
from serving.engines.onnx import OnnxEngine
from serving.models.warm_up import guessed_shapes, zeros

SIZES = (1, 4, 32)
_TURNS = 2


def best_rate(path: Path, seconds: float) -> float:
    """Returns rows a second of one engine with one thread, in a plain loop."""
    engine = OnnxEngine(path)
    batches = {rows: zeros(engine.inputs, guessed_shapes(engine.inputs), rows) for rows in SIZES}
    rates = dict.fromkeys(SIZES, 0.0)
    for batch in batches.values():
        engine.infer(batch)
    for _ in range(_TURNS):
        for rows, batch in batches.items():
            rates[rows] += _rate(engine, batch, rows, seconds / len(SIZES) / _TURNS) / _TURNS
    return max(rates.values())


def _rate(engine: OnnxEngine, batch: Arrays, rows: int, seconds: float) -> float:
    done, start = 0, time.perf_counter()
    while (elapsed := time.perf_counter() - start) < seconds:
        engine.infer(batch)
        done += rows
    return done / elapsed


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("file", type=Path)
    parser.add_argument("--seconds", type=float, default=3.0)
    options = parser.parse_args()
    print(best_rate(options.file, options.seconds))


if __name__ == "__main__":
    main()
