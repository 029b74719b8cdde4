"""What does planning CPU threads gain when models share a machine? Writes docs/bench/cpu_plan.md.

`python bench/cpu_plan.py` runs `--models` copies of the image model at once, each on a thread of
its own, one row a call: with one intra-op thread each, as our servers do unless told otherwise, and
with ONNX Runtime's default of one a core, each. Both in turns and short slices; a figure is the
median of the slices, the noise half their range over its middle.
"""

import argparse
import statistics
import threading
import time
from pathlib import Path

from bench.rivals.models import IMAGE, lengths_of, rows_of
from bench.rivals.processes import machine
from cluster.load.summary import spread
from serving.engines.cpus import available_cpus
from serving.engines.onnx import OnnxEngine

REPORT = Path("docs/bench/cpu_plan.md")
MODEL = Path(".fomofeed/models") / IMAGE / "1" / "model.onnx"
DEFAULT_THREADS = 0  # ONNX Runtime's own: one a core


def rate_of(engines: list[OnnxEngine], seconds: float) -> float:
    """Returns rows a second of all engines, each called without pause by a thread."""
    end, counts = time.monotonic() + seconds, [0] * len(engines)

    def run(number: int) -> None:
        row = rows_of(engines[number].inputs, lengths_of(IMAGE)[0], 1)
        while time.monotonic() < end:
            engines[number].infer(row)
            counts[number] += 1

    threads = [threading.Thread(target=run, args=(number,)) for number in range(len(engines))]
    start = time.monotonic()
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    return sum(counts) / (time.monotonic() - start)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--models", type=int, default=6)
    parser.add_argument("--seconds", type=float, default=2.0, help="of each slice")
    parser.add_argument("--rounds", type=int, default=7)
    parser.add_argument("--out", type=Path, default=REPORT)
    options = parser.parse_args()
    if not MODEL.is_file():
        raise SystemExit(f"no {IMAGE}: `make models` gets it")
    plans = {"one thread each": 1, "ONNX Runtime's default": DEFAULT_THREADS}
    engines = {
        name: [OnnxEngine(MODEL, threads=threads) for _ in range(options.models)]
        for name, threads in plans.items()
    }
    rates: dict[str, list[float]] = {name: [] for name in plans}
    for _ in range(options.rounds):
        for name, mine in engines.items():
            rates[name].append(rate_of(mine, options.seconds))
    planned, default = (statistics.median(seen) for seen in rates.values())
    lines = [
        "# CPU threads of several models",
        "",
        f"{machine()}; {available_cpus():g} CPUs by affinity and quota; {options.models} copies of "
        f"{IMAGE}; {options.rounds} rounds of {options.seconds:g} s.",
        "",
        "| threads | rows/s | noise |",
        "| --- | --- | --- |",
        *(
            f"| {name} | {statistics.median(seen):.1f} | ± {spread(seen):.0%} |"
            for name, seen in rates.items()
        ),
        "",
        f"Planned threads serve {planned / default:.2f} times as much.",
        "",
    ]
    options.out.write_text("\n".join(lines), encoding="utf-8")
    print("\n".join(lines))


if __name__ == "__main__":
    main()
