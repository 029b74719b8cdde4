"""How much of a GPU do pictures get? Part of `make gpu-check`; writes docs/bench/clip_gpu.md there.

`.venv/extras/bin/python bench/clip_gpu.py` runs ViT-B/32 and L/14 of true size (random weights) in
bfloat16, with a CUDA graph for each allowed number of rows, and prints for each: the network's rate
on tensors that are on the device already and its share of the measured matrix rate (operations of a
picture times pictures a second, over what a large bfloat16 product reaches); the engine's rate with
copies from and to the host; what the server gives callers of uint8 tensors and of JPEGs decoded on
the CPU; and loops over JPEGs, decoded by threads on the CPU and in batches on the GPU (nvJPEG, by
torchvision). Bars: served 0.90 of the engine, the network 0.35 of the matrix rate at best.

`--device cpu --layers 1` shows that all this works, and no more; it writes nothing.
"""

import argparse
import asyncio
import importlib.util
import os
import tempfile
import time
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from torch.nn import functional

from bench.clip.pictures import write_uploads
from bench.clip.random_weights import B32, L14, write_random_weights
from bench.clip.serving import clip_server
from cluster.load.client import ClosedLoop, closed_loop, fine_loop
from cluster.load.oip import open_inference_target
from cluster.load.targets import Cycle, Target
from fomofeed.clip.v1 import clip_service_pb2 as pb
from services.clip.vit import torch_towers
from services.clip.vit.architecture import Architecture
from services.clip.vit.build import VOCABULARY
from services.clip.vit.checkpoint import Checkpoint, open_checkpoint
from services.clip.vit.sight import enough_px
from serving.engines.torch import TorchEngine
from serving.engines.torch_files import read_program
from serving.media import ImageLimits, decode_image
from serving.models.artifacts import DEFAULT_REPOSITORY

REPORT = Path("docs/bench/clip_gpu.md")
ROWS = (1, 8, 32, 64, 128, 256)
_EMBED = "/fomofeed.clip.v1.ClipService/Embed"

Pictures = NDArray[np.uint8]


def operations(architecture: Architecture) -> float:
    """Returns the multiplications and additions that one picture takes in the image tower."""
    tower, patches = architecture.image, architecture.image.positions - 1
    places, width = tower.positions, tower.width
    block = places * (4 * width * width + 2 * width * tower.hidden) + 2 * places * places * width
    entry = patches * 3 * architecture.patch_px**2 * width
    return 2.0 * (tower.layers * block + entry + width * architecture.embedding)


def rate_of(call: Callable[[], object], count: int, seconds: float, device: str) -> float:
    """Returns `count` things a call, a second; waits for the device only at the end."""
    call()
    _wait(device)
    calls, started = 0, time.perf_counter()
    while not calls or time.perf_counter() - started < seconds:
        call()
        calls += 1
        if calls % 8 == 0:
            _wait(device)
    _wait(device)
    return calls * count / (time.perf_counter() - started)


def _wait(device: str) -> None:
    if device == "cuda":
        torch.cuda.synchronize()


def matrix_rate(device: str, seconds: float) -> float:
    """Returns operations a second of a large bfloat16 product."""
    side = 8192 if device == "cuda" else 512
    a, b = (torch.randn(side, side, device=device, dtype=torch.bfloat16) for _ in range(2))
    return rate_of(lambda: a @ b, 2 * side**3, seconds, device)


def captured(
    engine: TorchEngine, there: Sequence[torch.Tensor], device: str
) -> Callable[[], object]:
    """Returns what runs the network on tensors of the device: a graph's replay on a GPU."""
    if device != "cuda":
        return lambda: engine.forward(there)
    stream = torch.cuda.Stream()
    stream.wait_stream(torch.cuda.current_stream())
    with torch.cuda.stream(stream):  # lazy initialisation must not be captured
        engine.forward(there)
    stream.synchronize()
    graph = torch.cuda.CUDAGraph()
    with torch.cuda.graph(graph):
        engine.forward(there)
    return graph.replay


def of_engine(
    engine: TorchEngine, side_px: int, sizes: Sequence[int], seconds: float, device: str
) -> list[tuple[int, float, float]]:
    """Returns rows, the network's pictures a second, and the engine's with copies."""
    found = []
    for rows in sizes:
        images = np.random.default_rng(0).integers(0, 256, (rows, side_px, side_px, 3), np.uint8)
        there = [torch.from_numpy(images).to(device)]
        network = rate_of(captured(engine, there, device), rows, seconds, device)
        copied = rate_of(lambda batch=images: engine.infer({"image": batch}), rows, seconds, device)
        found.append((rows, network, copied))
    return found


def on_cpu(checkpoint: Checkpoint, files: Sequence[bytes], rows: int) -> Callable[[], Pictures]:
    """Returns what decodes and cuts `rows` files on a thread for each core."""
    pool, enough = ThreadPoolExecutor(os.cpu_count()), enough_px(checkpoint.pictures)

    def one(at: int) -> Pictures:
        content = files[at % len(files)]
        return checkpoint.pictures.cut(decode_image(content, ImageLimits(), enough).pixels)

    return lambda: np.stack(list(pool.map(one, range(rows))))


def on_gpu(side_px: int, files: Sequence[bytes], rows: int) -> Callable[[], torch.Tensor] | None:
    """Returns what decodes and cuts `rows` files on the GPU, None without torchvision."""
    if importlib.util.find_spec("torchvision") is None:
        return None
    from torchvision.io import ImageReadMode, decode_jpeg  # noqa: PLC0415  # an extra

    encoded = [torch.frombuffer(bytearray(files[at % len(files)]), dtype=torch.uint8)
               for at in range(rows)]  # fmt: skip

    def cut() -> torch.Tensor:
        decoded = decode_jpeg(encoded, mode=ImageReadMode.RGB, device="cuda")
        return torch.stack([_square(image, side_px) for image in decoded])

    return cut


def _square(image: torch.Tensor, side_px: int) -> torch.Tensor:
    """Returns (side, side, 3) uint8 of (3, height, width): antialiased bicubic, centre square."""
    _, height, width = image.shape
    size = [int(side_px * height / min(height, width)), int(side_px * width / min(height, width))]
    resized = functional.interpolate(image[None].float(), size, mode="bicubic", antialias=True)[0]
    top, left = (size[0] - side_px) // 2, (size[1] - side_px) // 2
    square = resized[:, top : top + side_px, left : left + side_px]
    return square.round().clamp(0, 255).to(torch.uint8).permute(1, 2, 0)


def of_jpegs(
    checkpoint: Checkpoint,
    engine: TorchEngine,
    files: Sequence[bytes],
    rows: int,
    device: str,
    seconds: float,
) -> list[str]:
    """Returns lines: loops over JPEGs, decoded on the CPU and on the GPU."""  # fmt: skip
    decode = on_cpu(checkpoint, files, rows)
    rate = rate_of(lambda: engine.infer({"image": decode()}), rows, seconds, device)
    lines = [f"- loop over JPEGs decoded on {os.cpu_count()} threads of the CPU: {rate:,.0f}/s"]
    there = on_gpu(checkpoint.architecture.side_px, files, rows) if device == "cuda" else None
    if there is None:
        return [*lines, "- decoding on the GPU: not measured, without a GPU or torchvision"]
    rate = rate_of(lambda: engine.forward([there()]), rows, seconds, device)
    found = torch.nn.functional.normalize(engine.forward([there()])[0].float(), dim=-1)
    expected = engine.infer({"image": decode()})["embedding"]
    cosine = float((found.cpu().numpy() * expected).sum(axis=1).min())
    return [*lines, f"- decoded on the GPU: {rate:,.0f}/s, lowest cosine {cosine:.4f}"]


def served(target: Target, callers: int, seconds: float) -> float:
    """Returns answered calls a second of a closed loop."""

    async def run() -> ClosedLoop:
        channel, call = target.open()
        async with channel:
            return await closed_loop(call, callers, seconds, warm_up_s=0.5)

    with asyncio.Runner(loop_factory=fine_loop) as runner:
        seen = runner.run(run())
    if seen.failed_count:
        raise SystemExit(f"{seen.failed_count} calls of {target.method} failed")
    return seen.rate


def of_server(
    weights: Path, repository: Path, files: Sequence[bytes], options: argparse.Namespace, rows: int
) -> tuple[float, float]:
    """Returns pictures a second that callers get: as tensors of eight rows, and as JPEGs."""
    settings = {
        "WEIGHTS": str(weights), "MODEL_REPOSITORY": str(repository), "ENGINE": "torch",
        "DEVICE": options.device, "PRECISION": "bf16", "MAX_BATCH_ROWS": str(rows),
        "IMAGE_PROCESSES": str(os.cpu_count()), "MAX_QUEUE_ROWS": "4096", "DETECT": "never",
    }  # fmt: skip
    requests = (pb.EmbedRequest(inputs=[pb.EmbedInput(image=file)]) for file in files)
    contents = tuple(request.SerializeToString() for request in requests)
    with clip_server(settings) as server:
        model = f"{open_checkpoint(weights).architecture.name}-image"
        in_call = min(8, rows)
        tensors = open_inference_target(server.address, model, in_call, range(1, 2), seed=1)
        callers = options.callers
        jpegs = Target(server.address, _EMBED, Cycle(contents))
        return (
            in_call * served(tensors, callers, options.seconds),
            served(jpegs, callers, options.seconds),
        )


def measure(
    name: str, folder: Path, files: Sequence[bytes], options: argparse.Namespace, peak: float
) -> list[str]:
    """Measures one model; returns its lines."""
    device, seconds = options.device, options.seconds
    weights = write_random_weights(folder / name, name, options.layers)
    checkpoint = open_checkpoint(weights)
    architecture, pictures = checkpoint.architecture, checkpoint.pictures
    export = folder / f"{name}.pt2"
    export.write_bytes(torch_towers.image_model(architecture, checkpoint.weights(), pictures))
    side = architecture.side_px
    engine = TorchEngine(
        read_program(export),
        device=device,
        precision="bf16",
        captured=[((rows, side, side, 3),) for rows in options.rows],
    )
    each = operations(architecture)
    lines = [
        f"## {architecture.name}: {each / 1e9:.1f} Gop a picture",
        "",
        "| rows | network/s | of the matrix rate | with copies/s |",
        "| --- | --- | --- | --- |",
    ]
    found = of_engine(engine, side, options.rows, seconds, device)
    lines += [
        f"| {rows} | {network:,.0f} | {network * each / peak:.2f} | {copied:,.0f} |"
        for rows, network, copied in found
    ]
    best_rows, _, best = max(found, key=lambda one: one[2])
    lines += ["", *of_jpegs(checkpoint, engine, files, best_rows, device, seconds)]
    del engine  # the server wants its memory
    tensors, jpegs = of_server(weights, folder / "models", files, options, best_rows)
    return [
        *lines,
        f"- served: {tensors:,.0f}/s as tensors, {tensors / best:.2f} of the engine with copies "
        f"(bar 0.90); {jpegs:,.0f}/s as JPEGs; {options.callers} callers",
        "",
    ]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--device", default="cuda", choices=("cuda", "cpu"))
    parser.add_argument("--models", nargs="+", default=[B32, L14])
    parser.add_argument("--layers", type=int, help="of both towers; all by default")
    parser.add_argument("--rows", type=int, nargs="+", default=ROWS)
    parser.add_argument("--callers", type=int, default=64)
    parser.add_argument("--seconds", type=float, default=2.0, help="of each figure")
    options = parser.parse_args()
    is_gpu = options.device == "cuda"
    peak = matrix_rate(options.device, options.seconds)
    name = torch.cuda.get_device_name() if is_gpu else "the CPU, a rehearsal"
    lines = ["# CLIP on a GPU", "", f"{name}; bfloat16 products reach {peak / 1e12:.2f} Top/s.", ""]
    with tempfile.TemporaryDirectory() as place:
        folder, uploads = Path(place), Path(place) / "uploads"
        uploads.mkdir()
        write_uploads(uploads)
        (folder / "models").mkdir()
        words = (DEFAULT_REPOSITORY / VOCABULARY).resolve()
        (folder / "models" / VOCABULARY).symlink_to(words)
        files = [path.read_bytes() for path in sorted(uploads.iterdir())]
        for model in options.models:
            lines += measure(model, folder, files, options, peak)
    print("\n".join(lines))
    if is_gpu:
        REPORT.write_text("\n".join([*lines, ""]), encoding="utf-8")


if __name__ == "__main__":
    main()
