"""The engine alone: its best offline loop, as a process beside the same client load.

`python -m bench.rivals.offline FILE.onnx --lengths 8-64` loads, warms and says so; then, for each
number of seconds on its standard input, it prints the rows a second of the best of some batch
sizes, which get equal shares of that time, but each goes through all lengths. Rows of mixed lengths
are sorted, and each batch is padded to its longest row: what somebody would do who has all rows
beforehand.
"""

import argparse
import subprocess
import sys
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from bench.rivals.models import Arrays, rows_of
from cluster.load.oip import mixed
from serving.engines.engine import TensorSpec
from serving.engines.onnx import OnnxEngine

SIZES = (1, 4, 16)


def rate_of(engine: OnnxEngine, batches: Sequence[Arrays], seconds: float) -> float:
    """Returns rows a second of one thread, over whole passes of at least so many seconds."""
    done, start, elapsed = 0, time.perf_counter(), 0.0
    while elapsed < seconds:
        for batch in batches:
            engine.infer(batch)
            done += len(next(iter(batch.values())))
        elapsed = time.perf_counter() - start
    return done / elapsed


def batches_of(specs: Sequence[TensorSpec], lengths: range, size: int) -> list[Arrays]:
    """Returns the batches of one pass over the lengths that the client sends."""
    if len(lengths) == 1:
        return [rows_of(specs, lengths[0], size)]
    ordered = sorted(mixed(lengths, seed=1))
    groups = [ordered[at : at + size] for at in range(0, len(ordered), size)]
    return [rows_of(specs, group[-1], len(group)) for group in groups]


def serve(options: argparse.Namespace) -> None:
    """Measures for each line of standard input."""
    engine = OnnxEngine(options.file)
    low, _, high = options.lengths.partition("-")
    lengths = range(int(low), int(high or low) + 1)
    passes = [batches_of(engine.inputs, lengths, size) for size in SIZES]
    for batches in passes:
        engine.infer(batches[-1])  # a first call
    print("ready", flush=True)
    for line in sys.stdin:
        share = float(line) / len(passes)
        print(max(rate_of(engine, batches, share) for batches in passes), flush=True)


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
def offline(file: Path, lengths: range) -> Iterator[Offline]:
    """Starts the process; ends it."""
    mix = f"{lengths[0]}-{lengths[-1]}"
    command = [sys.executable, "-m", "bench.rivals.offline", str(file), "--lengths", mix]
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
    parser.add_argument("--lengths", default="32", help="of the inputs' free sizes: N or N-M")
    serve(parser.parse_args())


if __name__ == "__main__":
    main()
