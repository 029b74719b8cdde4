"""Which engine runs CLIP and the embedded classifier best on this CPU? docs/bench/clip_engines.md.

`.venv/extras/bin/python bench/clip_engines.py` (needs Torch and OpenVINO) runs ViT-B/32 with random
weights of true size, and EfficientNet-Lite0, by each engine: one thread, the photographs of
`photos.yaml`, one and four in a batch, the engines in turns. A cell is the median over the rounds.
Beside it, how near the embeddings are to those of ONNX Runtime in float32: the lowest cosine of all
photographs, and the lowest around their mean, since what all have in common hides a change.
int8 is ONNX Runtime's own; ranges of activations are measured at run time for the Transformer, and
on every second photograph, whose cosines do not count, for the convolutions.
"""

import argparse
import tempfile
import time
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from bench.clip import lite0_torch
from bench.clip.damage import photographs
from bench.clip.int8 import quantized, quantized_with
from bench.clip.random_weights import B32, write_random_weights
from bench.rivals.processes import machine
from services.clip.imagenet import NAME as LITE0
from services.clip.preprocess import centre_square
from services.clip.vit import graph, torch_towers
from services.clip.vit.checkpoint import open_checkpoint
from serving.engines.engine import Engine
from serving.engines.onnx import OnnxEngine
from serving.engines.openvino import OpenVinoEngine
from serving.engines.torch import TorchEngine
from serving.engines.torch_files import read_program
from serving.models.artifacts import DEFAULT_REPOSITORY, open_artifact

REPORT = Path("docs/bench/clip_engines.md")
ROWS = (1, 4)
REFERENCE = "ONNX Runtime float32"
NOTE = """The default is ONNX Runtime in float32: what is not as exact moves the embeddings, and a
space of embeddings outlives a machine. `FOMOFEED_CLIP_ENGINE=auto` takes the quickest of the exact
ones on the machine it runs on. bfloat16 is emulated, and int8 slow, where the extensions named
above lack avx512_bf16 or amx_bf16, and avx512_vnni or avx_vnni."""
_FLAGS = ("avx2", "avx512f", "avx512_vnni", "avx_vnni", "avx512_bf16", "amx_bf16", "amx_int8")

Pictures = NDArray[np.uint8]
Points = NDArray[np.float32]


@dataclass(slots=True)
class Measured:
    """One engine: seconds of its calls by rows, and its embeddings of all photographs."""

    engine: Engine
    points: Points
    seconds: dict[int, list[float]] = field(default_factory=lambda: {rows: [] for rows in ROWS})

    def ms(self, rows: int) -> float:
        """Median milliseconds of one picture, `rows` in a call."""
        return float(np.median(self.seconds[rows])) / rows * 1e3


def vit(folder: Path, images: list[Pictures]) -> tuple[Mapping[str, Engine], Pictures]:
    """Returns ViT-B/32 by all engines, and the photographs as it wants them."""
    checkpoint = open_checkpoint(write_random_weights(folder / B32, B32))
    weights, pictures = checkpoint.weights(), checkpoint.pictures
    onnx, export = folder / "model.onnx", folder / "model.pt2"
    onnx.write_bytes(graph.image_model(checkpoint.architecture, weights, pictures))
    export.write_bytes(torch_towers.image_model(checkpoint.architecture, weights, pictures))
    engines: dict[str, Engine] = {
        REFERENCE: OnnxEngine(onnx),
        "ONNX Runtime int8": OnnxEngine(quantized(onnx, folder)),
        "OpenVINO float32": OpenVinoEngine(onnx),
        "OpenVINO bfloat16": OpenVinoEngine(onnx, precision="bf16"),
        "Torch float32": TorchEngine(read_program(export)),
        "Torch bfloat16": TorchEngine(read_program(export), precision="bf16"),
    }
    return engines, np.stack([pictures.cut(image) for image in images])


def lite0(folder: Path, images: list[Pictures]) -> tuple[Mapping[str, Engine], Pictures]:
    """Returns EfficientNet-Lite0 by all engines, and the photographs as it wants them."""
    onnx, crops = (
        open_artifact(DEFAULT_REPOSITORY, LITE0).path,
        np.stack(list(map(centre_square, images))),
    )
    engines: dict[str, Engine] = {
        REFERENCE: OnnxEngine(onnx),
        "ONNX Runtime int8": OnnxEngine(quantized_with(onnx, folder, crops[1::2])),
        "OpenVINO float32": OpenVinoEngine(onnx),
        "OpenVINO bfloat16": OpenVinoEngine(onnx, precision="bf16"),
        "Torch float32": TorchEngine(lite0_torch.program(onnx)),
        "Torch bfloat16": TorchEngine(lite0_torch.program(onnx), precision="bf16"),
    }
    return engines, crops


def measured(
    engines: Mapping[str, Engine], output: str, crops: Pictures, rounds: int
) -> dict[str, Measured]:
    """Runs all photographs once, then the engines in turns."""
    found = {
        name: Measured(
            engine, np.concatenate([engine.infer({"image": crop[None]})[output] for crop in crops])
        )
        for name, engine in engines.items()
    }
    for turn in range(rounds):
        for rows in ROWS:
            batch = np.take(crops, np.arange(turn, turn + rows), axis=0, mode="wrap")
            for one in found.values():
                one.engine.infer({"image": batch})  # warms what other engines have cooled
                started = time.perf_counter()
                one.engine.infer({"image": batch})
                one.seconds[rows].append(time.perf_counter() - started)
    return found


def lowest_cosine(found: Points, expected: Points, centre: Points | float = 0.0) -> float:
    one, other = found - centre, expected - centre
    lengths = np.linalg.norm(one, axis=1) * np.linalg.norm(other, axis=1)
    return float(((one * other).sum(axis=1) / lengths).min())


def table(title: str, found: Mapping[str, Measured]) -> list[str]:
    """Returns the lines of one model; cosines of every second photograph."""
    reference = found[REFERENCE]
    expected = reference.points[::2]
    lines = [
        f"## {title}",
        "",
        "| engine | ms a picture, alone | of four | speed | lowest cosine | around the mean |",
        "| --- | --- | --- | --- | --- | --- |",
    ]
    for name, one in found.items():
        best = min(one.ms(rows) for rows in ROWS)
        speed = min(reference.ms(rows) for rows in ROWS) / best
        points = one.points[::2]
        around = lowest_cosine(points, expected, expected.mean(axis=0))
        lines.append(
            f"| {name} | {one.ms(1):.1f} | {one.ms(4):.1f} | {speed:.2f} × "
            f"| {lowest_cosine(points, expected):.5f} | {around:.5f} |"
        )
    return [*lines, ""]


def flags() -> str:
    """The extensions of this processor that matter here."""
    words = set(Path("/proc/cpuinfo").read_text(encoding="utf-8").split())
    return ", ".join(flag for flag in _FLAGS if flag in words) or "none that matter"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--photographs", type=int, default=16)
    options = parser.parse_args()
    images = [np.asarray(image) for image in photographs().values()][: options.photographs]
    lines = [
        "# Engines on this CPU",
        "",
        f"{machine()}, one core used; {flags()}; {len(images)} photographs, "
        f"{options.rounds} rounds.",
        "",
    ]
    with tempfile.TemporaryDirectory() as folder:
        engines, crops = vit(Path(folder), images)
        lines += table(
            "ViT-B/32, image tower", measured(engines, "embedding", crops, options.rounds)
        )
        engines, crops = lite0(Path(folder), images)
        lines += table("EfficientNet-Lite0", measured(engines, "features", crops, options.rounds))
    lines += [NOTE, ""]
    REPORT.write_text("\n".join(lines), encoding="utf-8")
    print("\n".join(lines))


if __name__ == "__main__":
    main()
