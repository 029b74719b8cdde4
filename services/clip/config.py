from dataclasses import dataclass
from pathlib import Path

from serving.models.artifacts import DEFAULT_REPOSITORY

_OF_WEIGHTS = ("vocabulary", "aesthetic_head", "exact_pixels", "engine")  # nothing without them


@dataclass(frozen=True, slots=True)
class ClipConfig:
    """What the server looks with, and how much at once. Filled from `FOMOFEED_CLIP_*`."""

    model_repository: Path = DEFAULT_REPOSITORY
    tags: Path | None = None  # a tag file of the operator; None: the shipped one
    weights: Path | None = None  # CLIP weights of the operator; None: the embedded classifier
    vocabulary: Path | None = None  # words for those weights; None: the shipped ones
    aesthetic_head: Path | None = None  # a linear layer on their embeddings
    exact_pixels: bool = False  # decode all pixels for those weights, as their reference does
    engine: str = ""  # for those weights: onnx, openvino, torch, or auto (measured); "": onnx
    device: str = "cpu"  # for those weights: or cuda, with the extra gpu
    precision: str = "f32"  # for those weights: or bf16, with openvino and torch
    detect: str = (
        "unsure"  # when the object detector looks: always, never, or where no tag is known
    )
    cache_bytes: int = 32 * 1024 * 1024  # of remembered analyses, some 4,000; 0: none, >= 0
    max_image_bytes: int = 8 * 1024 * 1024  # >= 1
    max_side_px: int = 4096  # >= 16
    max_batch_images: int = 32  # in one batch request, >= 1
    image_processes: int = 2  # decode and measure images beside the server, >= 1
    max_waiting_images: int = 256  # for those processes; each holds its bytes, >= 0
    instances: int = 1  # engines, each with a thread of its own, >= 1
    engine_threads: int = 1  # inside one engine call, >= 1
    max_batch_rows: int = 4  # images in one engine call, >= 1
    max_queue_rows: int = 512  # images that may wait for an engine, >= 1

    def __post_init__(self) -> None:
        for name in ("max_batch_images", "image_processes", "instances", "engine_threads"):
            if getattr(self, name) < 1:
                raise ValueError(f"{name} is {getattr(self, name)}, >= 1")
        if self.weights is None and (given := [n for n in _OF_WEIGHTS if getattr(self, n)]):
            raise ValueError(f"{given[0]} needs weights")
        if self.detect not in ("always", "unsure", "never"):
            raise ValueError(f"detect is {self.detect!r}, expected always, unsure or never")
        for name in ("max_waiting_images", "cache_bytes"):
            if getattr(self, name) < 0:
                raise ValueError(f"{name} is {getattr(self, name)}, >= 0")

    @property
    def captured_rows(self) -> tuple[int, ...]:
        """Numbers of rows that reach the weights' engines on a GPU; empty: any number may.

        Powers of 2 up to the largest batch, each captured once as a CUDA graph.
        """
        if self.device != "cuda":
            return ()
        powers = (1 << power for power in range(self.max_batch_rows.bit_length()))
        return tuple(sorted({*powers, self.max_batch_rows}))
