"""What does the Torch engine serve on a GPU? Part of `make gpu-check`; needs the extra `gpu`.

`python bench/gpu_serving.py` exports a text encoder of MiniLM's size with seeded weights, and for
float32 and bfloat16 prints: the engine's best offline loop (its captured graphs, batches of 1, 8
and 32), what `fomofeed serve` answers to `--callers` callers of `--rows` rows each, the ratio of
the two, how far the answers are from float32 on the CPU, and how far those alone are from those in
batches. Client and server share the machine's cores; the offline loop has it to itself, in turns
with them. `--device cpu --precisions f32 --callers 2 --rows 1` shows on any machine that all this
works, no more: many processors have no bfloat16 of their own.
"""

import argparse
import statistics
import tempfile
import time
from contextlib import ExitStack
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import torch

from bench.rivals.processes import Command, machine, running
from bench.rivals.torch_encoder import LENGTH, NAME, write_encoder
from bench.rivals.turns import Cell, ask
from cluster.load.summary import spread
from serving.engines.engine import Arrays
from serving.engines.torch import TorchEngine
from serving.engines.torch_files import read_program
from serving.models.invariance import check_invariance, rows_of

PRECISIONS = ("f32", "bf16")
SIZES = (1, 8, 32)
ITEMS = 33  # texts whose answers are compared


@dataclass(slots=True)
class Seen:
    """What one precision showed."""

    off: float = 0.0  # largest difference to float32 on the CPU
    apart: float = 0.0  # largest difference of an answer alone and in a batch
    offline: list[float] = field(default_factory=list)  # rows a second
    served: Cell = field(default_factory=Cell)


def texts(count: int) -> list[Arrays]:
    """Returns so many texts of one row each, seeded."""
    ids = np.random.default_rng(2).integers(0, 30_000, (count, LENGTH))
    return [{"ids": ids[at : at + 1]} for at in range(count)]


def joined(items: list[Arrays]) -> Arrays:
    return {"ids": np.concatenate([item["ids"] for item in items])}


def best_rate(engine: TorchEngine, seconds: float) -> float:
    """Returns rows a second of the best batch size, each tried for its share of the time."""
    rates = []
    for size in SIZES:
        batch, done = joined(texts(size)), 0
        engine.infer(batch)
        start = time.perf_counter()
        while (elapsed := time.perf_counter() - start) < seconds / len(SIZES):
            engine.infer(batch)
            done += size
        rates.append(done / elapsed)
    return max(rates)


def compare(engine: TorchEngine, reference: TorchEngine, seen: Seen) -> None:
    """Measures how far answers are from the reference's, and from those in other batches."""
    batch = joined(texts(ITEMS - 1))
    gap = engine.infer(batch)["vector"] - reference.infer(batch)["vector"]
    seen.off = float(np.abs(gap).max())
    items = texts(ITEMS)
    seen.apart = check_invariance(
        rows_of(engine), items, tolerance=float("inf"), max_batch_rows=SIZES[-1], rounds=2
    ).value


def measure(precision: str, options: argparse.Namespace) -> Seen:
    """Compares, then asks engine and server in turns."""
    seen = Seen()
    with tempfile.TemporaryDirectory() as folder, ExitStack() as stack:
        file = write_encoder(Path(folder), options.device, precision)
        engine = TorchEngine(
            read_program(file),
            threads=options.threads,
            device=options.device,
            precision=precision,
            captured=[((rows, LENGTH),) for rows in SIZES],
        )
        compare(engine, TorchEngine(read_program(file), threads=options.threads), seen)
        arguments = ["--model-repository", folder, "--metrics-port", "0"]
        server = stack.enter_context(running(Command("serving.oip", arguments), NAME))
        for _ in range(options.rounds):
            ask(server, NAME, options.callers, options.seconds, seen.served, options.rows)
            seen.offline.append(best_rate(engine, options.seconds))
    return seen


def table(found: dict[str, Seen], rows: int) -> list[str]:
    """Returns the lines of the table."""
    headings = ("offline rows/s", "served rows/s", "÷ offline", "noise", "p50 ms", "p99 ms")
    lines = [f"| precision | {' | '.join(headings)} | off from f32 on CPU | off in a batch |"]
    lines.append("| --- " * (len(headings) + 3) + "|")
    for precision, seen in found.items():
        offline, served = statistics.median(seen.offline), seen.served.rate * rows
        if not seen.served.p50_ms:
            raise SystemExit(f"{precision}: no call of {seen.served.failed} was answered")
        lines.append(
            f"| {precision} | {offline:,.0f} | {served:,.0f} | {served / offline:.2f} "
            f"| ± {max(spread(seen.offline), spread(seen.served.rates)):.0%} "
            f"| {statistics.median(seen.served.p50_ms):.1f} "
            f"| {statistics.median(seen.served.p99_ms):.1f} "
            f"| {seen.off:.1e} | {seen.apart:.1e} |"
        )
    return lines


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--device", choices=("cuda", "cpu"), default="cuda")
    parser.add_argument("--precisions", nargs="+", choices=PRECISIONS, default=PRECISIONS)
    parser.add_argument("--callers", type=int, default=64)
    parser.add_argument("--rows", type=int, default=4, help="of each call")
    parser.add_argument("--threads", type=int, default=1, help="of the engine on a CPU")
    parser.add_argument("--seconds", type=float, default=2.0, help="of each slice")
    parser.add_argument("--rounds", type=int, default=3)
    options = parser.parse_args()
    if options.device == "cuda" and not torch.cuda.is_available():
        raise SystemExit("Torch finds no CUDA device: nothing was measured")
    name = torch.cuda.get_device_name() if options.device == "cuda" else "the CPU"
    print(f"Torch {torch.__version__} on {name}; {machine()}; {options.rows} rows a call.\n")
    found = {precision: measure(precision, options) for precision in options.precisions}
    print("\n".join(table(found, options.rows)))


if __name__ == "__main__":
    main()
