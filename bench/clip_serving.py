"""How much of this machine's picture rate do callers get? Writes docs/bench/clip_serving.md.

`python bench/clip_serving.py` asks the clip server for JPEGs of 1080 x 1350 px (Embed, and
AnalyzeImage without its detector) and for uint8 tensors (ModelInfer), one picture a call and eight
(BatchAnalyzeImages, Embed of eight, eight rows), and lets plain loops do the same steps on the same
cores: one process with one or two threads, and two processes; the best of them counts, as the best
number of callers does. The callers of the server run on its cores: so `offline` is what the loops
do while a client sends the same requests, as many a second as the server has just answered, to a
null server; `alone` is without. All are asked in turns, in short slices; a figure is the median of
the slices, a ratio that of the rounds. The CPU time of a picture, offline alone over served, does
not depend on clients. The cache is off. Then an open loop of Poisson arrivals at 80 % of the rate
of its method, one picture a call.
"""

import argparse
import asyncio
import io
import statistics
import tempfile
import time
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, field, replace
from functools import partial
from itertools import product
from operator import itemgetter
from pathlib import Path
from typing import TypeVar

import numpy as np
from google.protobuf.message import Message
from PIL import Image

from bench.clip.offline import ANALYZE, EMBED, TENSOR, Slice, offline
from bench.clip.pictures import QUALITY, write_uploads
from bench.clip.serving import ClipServer, clip_server
from bench.rivals.beside import beside_load
from bench.rivals.null import null_server
from bench.rivals.onnx_session import OnnxSession
from bench.rivals.processes import machine
from cluster.load.arrivals import poisson
from cluster.load.client import ClosedLoop, OpenLoop, closed_loop, fine_loop
from cluster.load.fleet import Fleet
from cluster.load.oip import open_inference_target
from cluster.load.outcomes import Outcomes
from cluster.load.targets import Cycle, Target
from fomofeed.clip.v1 import clip_service_pb2 as pb
from services.clip.imagenet import NAME
from services.clip.preprocess import SIDE_PX
from serving.models.artifacts import DEFAULT_REPOSITORY, open_artifact

REPORT = Path("docs/bench/clip_serving.md")
LAYOUTS = {"1 thread": (1, 1), "2 threads": (1, 2), "2 processes": (2, 1)}
BESIDE_LOAD = ("2 threads", "2 processes")  # one thread leaves a core to the client
CALLERS = {1: (1, 8, 16), 8: (2, 4)}  # by pictures of a call
WARM_UP_S, TIMEOUT_S = 0.3, 10.0
SETTINGS = {"DETECT": "never", "INSTANCES": "2", "IMAGE_PROCESSES": "2"}
BARS = {TENSOR: 0.95, EMBED: 0.90, ANALYZE: 0.90}
LOAD = 0.8  # of the rate that was reached
Kind = tuple[str, int]  # of work, and pictures of a call
Item = TypeVar("Item")
_SERVICE = "/fomofeed.clip.v1.ClipService/"


@dataclass(slots=True)
class Work:
    """One kind of request and what was measured of it."""

    target: Target
    pictures: int  # of a call
    alone: dict[str, list[Slice]] = field(default_factory=dict)  # by layout
    offline: dict[str, list[Slice]] = field(default_factory=dict)  # beside the client's load
    served: dict[int, list[ClosedLoop]] = field(default_factory=dict)
    cpu_ms: list[float] = field(default_factory=list)  # of the server, for a picture

    def rate_of(self, callers: int) -> float:
        """Pictures a second."""
        return statistics.median(loop.rate for loop in self.served[callers]) * self.pictures

    @property
    def best_callers(self) -> int:
        return max(self.served, key=self.rate_of)

    @property
    def calls_a_second(self) -> float:
        """What the server has just answered."""
        return max(loops[-1].rate for loops in self.served.values())


def best_of(slices: Mapping[str, Sequence[Slice]]) -> str:
    """Returns the layout with the highest rate."""
    return max(slices, key=lambda name: statistics.median(one.rate for one in slices[name]))


def works_of(server: ClipServer, files: Sequence[bytes]) -> dict[Kind, Work]:
    """Returns the kinds of requests with their serialized messages."""

    def asked(method: str, pictures: int, requests: Iterable[Message]) -> Work:
        contents = tuple(request.SerializeToString() for request in requests)
        return Work(Target(server.address, _SERVICE + method, Cycle(contents)), pictures)

    def tensor(pictures: int) -> Work:
        target = open_inference_target(server.address, NAME, pictures, range(1, 2), seed=1)
        return Work(target, pictures)

    def embed(pictures: int) -> Work:
        groups = ([pb.EmbedInput(image=file) for file in some] for some in taken(files, pictures))
        return asked("Embed", pictures, (pb.EmbedRequest(inputs=group) for group in groups))

    def analyze(pictures: int) -> Work:
        singles = [pb.AnalyzeImageRequest(image=file) for file in files]
        if pictures == 1:
            return asked("AnalyzeImage", 1, singles)
        batches = (pb.BatchAnalyzeImagesRequest(requests=some) for some in taken(singles, pictures))
        return asked("BatchAnalyzeImages", pictures, batches)

    make = {TENSOR: tensor, EMBED: embed, ANALYZE: analyze}
    return {(work, count): of(count) for work, of in make.items() for count in CALLERS}


def taken(items: Sequence[Item], count: int) -> Iterator[Sequence[Item]]:
    """Returns the items in groups of `count`."""
    for at in range(0, len(items), count):
        yield items[at : at + count]


def ask(server: ClipServer, work: Work, callers: int, seconds: float) -> None:
    """Runs a closed loop against the server; CPU is that of all its calls, warm-up and end too."""
    done = 0

    async def run() -> ClosedLoop:
        channel, call = work.target.open()

        async def counted(index: int, timeout_s: float) -> int:
            nonlocal done
            status = await call(index, timeout_s)
            done += 1
            return status

        async with channel:
            return await closed_loop(counted, callers, seconds, warm_up_s=WARM_UP_S)

    before = server.cpu_s()
    with asyncio.Runner(loop_factory=fine_loop) as runner:
        seen = runner.run(run())
    if seen.failed_count:
        raise SystemExit(f"{seen.failed_count} calls of {work.target.method} failed")
    work.served.setdefault(callers, []).append(seen)
    work.cpu_ms.append((server.cpu_s() - before) / done / work.pictures * 1e3)


def at_load(work: Work, rate: float, seconds: float) -> Outcomes:
    """Sends Poisson arrivals at `rate`; returns what became of them."""

    async def run() -> Outcomes:
        channel, call = work.target.open()
        async with channel:
            load = OpenLoop(call, poisson(rate, seconds, seed=1), TIMEOUT_S)
            return await load.run(asyncio.get_running_loop().time() + 0.05)

    with asyncio.Runner(loop_factory=fine_loop) as runner:
        return runner.run(run())


def floors(files: Sequence[bytes]) -> dict[str, float]:
    """Returns the least time of a step in ms: bare calls of the libraries, one thread."""
    engine = OnnxSession(open_artifact(DEFAULT_REPOSITORY, NAME).path)
    batch = {"image": np.zeros((4, SIDE_PX, SIDE_PX, 3), np.uint8)}
    times: dict[str, list[float]] = {"decode": [], "network": []}
    for content in files:
        started = time.perf_counter()
        image = Image.open(io.BytesIO(content))
        image.draft("RGB", (image.width // 2, image.height // 2))  # what is enough here
        image.load()
        times["decode"].append(time.perf_counter() - started)
        started = time.perf_counter()
        engine.run(batch)
        times["network"].append((time.perf_counter() - started) / 4)
    return {step: statistics.median(seconds) * 1e3 for step, seconds in times.items()}


def measure(server: ClipServer, folder: Path, seconds: float, rounds: int) -> dict[Kind, Work]:
    """Asks the server and lets the loops run, in turns."""
    files = tuple(path.read_bytes() for path in sorted(folder.iterdir()))
    works = works_of(server, files)
    with ExitStack() as stack:
        largest = sorted(works, key=itemgetter(1), reverse=True)
        targets = [works[kind].target for kind in largest]
        requests = {target.method: target.payloads(0) for target in targets}  # of one picture
        null = stack.enter_context(null_server(server.address, requests))
        clients = {
            kind: stack.enter_context(Fleet(replace(work.target, address=null.address)))
            for kind, work in works.items()
        }
        loops = {
            (kind, name): stack.enter_context(offline(kind, folder, *layout))
            for kind in BARS
            for name, layout in LAYOUTS.items()
        }
        for _ in range(rounds):
            for kind in BARS:
                for pictures, numbers in CALLERS.items():
                    for callers in numbers:
                        ask(server, works[kind, pictures], callers, seconds)
                for name in LAYOUTS:
                    found = loops[kind, name].slice(seconds)
                    for pictures in CALLERS:
                        works[kind, pictures].alone.setdefault(name, []).append(found)
                for pictures, name in product(CALLERS, BESIDE_LOAD):
                    work, run = works[kind, pictures], partial(loops[kind, name].slice, seconds)
                    client = clients[kind, pictures]
                    found = beside_load(client, work.calls_a_second, seconds, run)
                    work.offline.setdefault(name, []).append(found)
    return works


def rates(works: Mapping[Kind, Work]) -> list[str]:
    """Returns the table of rates."""
    lines = [
        "| request | pictures a call | served/s | callers | offline/s | layout | served ÷ offline "
        "| quartiles | bar | ÷ alone | CPU ms a picture: alone | served | alone ÷ served |",
        "| --- " * 13 + "|",
    ]
    for (kind, pictures), work in works.items():
        layout, callers = best_of(work.offline), work.best_callers
        offline, alone = work.offline[layout], work.alone[best_of(work.alone)]
        offline_rate = statistics.median(one.rate for one in offline)
        alone_cpu = statistics.median(one.cpu_ms for one in alone)
        served_cpu = statistics.median(work.cpu_ms)
        served = [loop.rate * pictures for loop in work.served[callers]]
        low, ratio, high = statistics.quantiles(paired(served, offline), n=4, method="inclusive")
        to_alone = statistics.median(paired(served, alone))
        lines.append(
            f"| {kind} | {pictures} | {work.rate_of(callers):.1f} | {callers} | {offline_rate:.1f} "
            f"| {layout} | {ratio:.2f} | {low:.2f} to {high:.2f} | {BARS[kind]:.2f} "
            f"| {to_alone:.2f} | {alone_cpu:.1f} | {served_cpu:.1f} "
            f"| {alone_cpu / served_cpu:.2f} |"
        )
    return [*lines, ""]


def paired(rates: Sequence[float], slices: Sequence[Slice]) -> list[float]:
    """Returns the ratio of each round."""
    return [rate / one.rate for rate, one in zip(rates, slices, strict=True)]


def latencies(works: Mapping[Kind, Work], seconds: float) -> list[str]:
    """Measures at 80 % of each rate; returns the table."""
    lines = ["| request at 80 % | calls/s | p50 ms | p99 ms | failed |", "| --- " * 5 + "|"]
    for kind in BARS:
        work = works[kind, 1]
        rate = LOAD * work.rate_of(work.best_callers)
        outcomes = at_load(work, rate, seconds)
        good = outcomes.latency[outcomes.is_ok]
        p50, p99 = (float(value) * 1e3 for value in np.quantile(good, (0.5, 0.99)))
        failed = len(outcomes) - len(good)
        lines.append(f"| {kind} | {rate:.1f} | {p50:.1f} | {p99:.1f} | {failed} |")
    return [*lines, ""]


def shares(work: Work, least: Mapping[str, float]) -> list[str]:
    """Returns the table of the steps of one picture, on one thread."""
    one = work.alone["1 thread"]
    steps = {step: statistics.median(s.step_ms[step] for s in one) for step in one[0].step_ms}
    total = sum(steps.values())
    lines = ["| step, one thread | ms | share | floor ms | ÷ floor |", "| --- " * 5 + "|"]
    for step, ms in steps.items():
        floor = f"{least[step]:.1f} | {ms / least[step]:.2f}" if step in least else "– | –"
        lines.append(f"| {step} | {ms:.1f} | {ms / total:.0%} | {floor} |")
    return [*lines, ""]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--seconds", type=float, default=1.5, help="of each slice")
    parser.add_argument("--rounds", type=int, default=8)
    parser.add_argument("--load-seconds", type=float, default=10.0)
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as name, clip_server(SETTINGS) as server:
        folder, idle_mb = Path(name), server.memory_mb()
        mean_bytes = write_uploads(folder)
        works = measure(server, folder, options.seconds, options.rounds)
        files = [path.read_bytes() for path in sorted(folder.iterdir())]
        settings = ", ".join(f"{key}={value}" for key, value in SETTINGS.items())
        lines = [
            "# Served pictures",
            "",
            f"{machine()}, {options.rounds} rounds of {options.seconds:g} s; {settings}; JPEGs of "
            f"1080 x 1350 px at quality {QUALITY}, {mean_bytes / 1000:.0f} kB in the mean.",
            "",
            *rates(works),
            *latencies(works, options.load_seconds),
            *shares(works[ANALYZE, 1], floors(files)),
            f"Cold start to SERVING {server.start_s:.1f} s; memory {idle_mb:.0f} MB idle, "
            f"{server.memory_mb():.0f} MB after {options.rounds} rounds.",
        ]
    REPORT.write_text("\n".join([*lines, ""]), encoding="utf-8")
    print("\n".join(lines))


if __name__ == "__main__":
    main()
