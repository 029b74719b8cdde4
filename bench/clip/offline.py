"""What can be had without a server: the same steps on the same cores, in plain loops.

`python -m bench.clip.offline WORK FOLDER --threads N` loads and says so; then, for each number of
seconds on its standard input, it prints how many pictures it did in that time, how much CPU time
they took, and the mean seconds of each step, as JSON. WORK is one of
tensor    the network alone, on uint8 pixels
embed     decode, cut, network: what Embed does
analyze   the same with quality, palette and pixel tags: what AnalyzeImage does without a detector
"""

import argparse
import json
import subprocess
import sys
import threading
import time
from collections import defaultdict
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from services.clip import drawn, pixels, quality
from services.clip.imagenet import NAME
from services.clip.preprocess import SIDE_PX, centre_square
from services.clip.quality import SHORT_SIDE_PX
from serving.engines.onnx import OnnxEngine
from serving.media import ImageLimits, decode_image
from serving.models.artifacts import DEFAULT_REPOSITORY, open_artifact

TENSOR, EMBED, ANALYZE = "tensor", "embed", "analyze"
LIMITS = ImageLimits()
_PICTURES = "pictures"

Seconds = dict[str, float]  # spent on each step; and the number of pictures


@dataclass(frozen=True, slots=True)
class Slice:
    """What all processes of a loop did in some seconds."""

    rate: float  # pictures a second
    cpu_ms: float  # of a picture
    step_ms: dict[str, float]  # mean time of each step, in the clock of the wall


def worker(
    work: str, engine: OnnxEngine, files: tuple[bytes, ...], end: float, done: list[Seconds]
) -> None:
    """Goes through the files until `end`; leaves the count and the seconds of each step."""
    seconds: Seconds = defaultdict(float)
    crops = np.random.default_rng(0).integers(0, 256, (2, SIDE_PX, SIDE_PX, 3), np.uint8)
    at = 0
    while (started := time.perf_counter()) < end:
        crop = crops[at % 2]
        if work != TENSOR:
            picture = decode_image(files[at % len(files)], LIMITS, SHORT_SIDE_PX).pixels
            decoded = time.perf_counter()
            crop = centre_square(picture)
            seconds["decode"] += decoded - started
            seconds["cut"] += time.perf_counter() - decoded
        began = time.perf_counter()
        engine.infer({"image": crop[None]})
        seconds["network"] += time.perf_counter() - began
        if work == ANALYZE:
            began = time.perf_counter()
            quality.assess(picture)
            drawn.tags(picture)
            pixels.look(picture)
            seconds["measures"] += time.perf_counter() - began
        at += 1
    seconds[_PICTURES] = at
    done.append(seconds)


def measure(
    work: str, engines: Sequence[OnnxEngine], files: tuple[bytes, ...], seconds: float
) -> Slice:
    """Runs the loop on a thread of this process for each engine."""
    done: list[Seconds] = []
    cpu, began = time.process_time(), time.perf_counter()
    end = began + seconds
    threads = [
        threading.Thread(target=worker, args=(work, engine, files[at:] + files[:at], end, done))
        for at, engine in enumerate(engines)
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    elapsed, cpu = time.perf_counter() - began, time.process_time() - cpu
    count = sum(one.pop(_PICTURES) for one in done)
    steps = {step: sum(one[step] for one in done) / count * 1e3 for step in done[0]}
    return Slice(count / elapsed, cpu / count * 1e3, steps)


def serve(options: argparse.Namespace) -> None:
    """Measures for each line of standard input."""
    files = tuple(path.read_bytes() for path in sorted(options.folder.iterdir()))
    model = open_artifact(DEFAULT_REPOSITORY, NAME).path
    engines = [OnnxEngine(model) for _ in range(options.threads)]
    measure(options.work, engines, files, 0.5)  # a first time
    print("ready", flush=True)
    for line in sys.stdin:
        found = measure(options.work, engines, files, float(line))
        print(json.dumps([found.rate, found.cpu_ms, found.step_ms]), flush=True)


@dataclass(frozen=True, slots=True)
class Offline:
    """One process or several that wait."""

    processes: Sequence[subprocess.Popen[str]]

    def slice(self, seconds: float) -> Slice:
        """Lets all of them run at once for `seconds`; rates add up, the rest is averaged."""
        for process in self.processes:
            assert process.stdin
            process.stdin.write(f"{seconds}\n")
            process.stdin.flush()
        found = [Slice(*json.loads(p.stdout.readline())) for p in self.processes if p.stdout]
        steps = {
            step: sum(one.step_ms[step] for one in found) / len(found) for step in found[0].step_ms
        }
        cpu_ms = sum(one.cpu_ms for one in found) / len(found)
        return Slice(sum(one.rate for one in found), cpu_ms, steps)


@contextmanager
def offline(work: str, folder: Path, processes: int, threads: int) -> Iterator[Offline]:
    """Starts a loop of so many processes and threads; ends it."""
    command = [sys.executable, "-m", "bench.clip.offline", work, str(folder), "--threads"]
    started = [
        subprocess.Popen(
            [*command, str(threads)], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
        )
        for _ in range(processes)
    ]
    try:
        for process in started:
            assert process.stdout
            process.stdout.readline()
        yield Offline(started)
    finally:
        for process in started:
            process.kill()
            process.wait()


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("work", choices=(TENSOR, EMBED, ANALYZE))
    parser.add_argument("folder", type=Path, help="of encoded pictures")
    parser.add_argument("--threads", type=int, default=1)
    serve(parser.parse_args())


if __name__ == "__main__":
    main()
