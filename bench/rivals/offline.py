"""The engine alone: its best offline loop, as a process beside the same client load.

`python -m bench.rivals.offline FILE.onnx --name minilm` loads, warms and says so; then, for each
number of seconds on its standard input, it prints the rows a second of the best of some batch
sizes, which get equal shares of that time, but each goes through all lengths. Rows of mixed lengths
are sorted, and each batch is padded to its longest row, or ragged if the model is: what somebody
would do who has all rows beforehand.
"""

import argparse
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import numpy as np

from bench.rivals.models import engine_of, lengths_of, rows_of
from cluster.load.oip import mixed
from serving.engines.engine import Engine
from serving.engines.ragged import RaggedEngine

SIZES = (1, 4, 16)


@dataclass(frozen=True, slots=True)
class Batch:
    """An engine call of some rows."""

    rows: int
    run: Callable[[], object]


def rate_of(batches: Sequence[Batch], seconds: float) -> float:
    """Returns rows a second of one thread, over whole passes of at least so many seconds."""
    done, start, elapsed = 0, time.perf_counter(), 0.0
    while elapsed < seconds:
        for batch in batches:
            batch.run()
            done += batch.rows
        elapsed = time.perf_counter() - start
    return done / elapsed


def batches_of(engine: Engine, lengths: range, size: int) -> list[Batch]:
    """Returns the batches of one pass over the lengths that the client sends."""
    ordered = [lengths[0]] * size if len(lengths) == 1 else sorted(mixed(lengths, seed=1))
    groups = [ordered[at : at + size] for at in range(0, len(ordered), size)]
    return [Batch(len(group), _call(engine, group)) for group in groups]


def _call(engine: Engine, lengths: Sequence[int]) -> Callable[[], object]:
    if isinstance(engine, RaggedEngine):
        tokens = np.ones(sum(lengths), np.int64)
        flat = dict.fromkeys(engine.ragged.inputs, tokens)
        return partial(engine.infer_flat, flat, np.array(lengths))
    return partial(engine.infer, rows_of(engine.inputs, lengths[-1], len(lengths)))


def serve(options: argparse.Namespace) -> None:
    """Measures for each line of standard input."""
    engine = engine_of(options.name, options.file)
    passes = [batches_of(engine, lengths_of(options.name), size) for size in SIZES]
    for batches in passes:
        batches[-1].run()  # a first call
    print("ready", flush=True)
    for line in sys.stdin:
        share = float(line) / len(passes)
        print(max(rate_of(batches, share) for batches in passes), flush=True)


@dataclass(frozen=True, slots=True)
class Offline:
    """The process, waiting."""

    process: subprocess.Popen[str]

    def rate(self, seconds: float) -> float:
        """Returns the rows a second of the best loop, measured now for `seconds`."""
        assert self.process.stdin and self.process.stdout
        self.process.stdin.write(f"{seconds}\n")
        self.process.stdin.flush()
        return float(self.process.stdout.readline())


@contextmanager
def offline(file: Path, model: str) -> Iterator[Offline]:
    """Starts the process; ends it."""
    command = [sys.executable, "-m", "bench.rivals.offline", str(file), "--name", model]
    with subprocess.Popen(
        command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    ) as process:
        assert process.stdout and process.stdin
        process.stdout.readline()
        try:
            yield Offline(process)
        finally:
            process.stdin.close()


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("file", type=Path)
    parser.add_argument("--name", required=True)
    serve(parser.parse_args())


if __name__ == "__main__":
    main()
