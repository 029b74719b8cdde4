"""Looks at one image with everything this server has; knows no gRPC.

An image is decoded on a thread; then the classifier runs on its instance's thread while quality,
palette and pixel statistics are measured on another.
"""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import Any, Self

import numpy as np
from numpy.typing import NDArray

from fomofeed.type.v1 import type_pb2
from services.clip import pixels, quality
from services.clip.brisque import Brisque
from services.clip.config import ClipConfig
from services.clip.frame import Frame, read_frame
from services.clip.pixels import Colour
from services.clip.quality import Pixels, Quality
from services.clip.tags import Tag, Vocabulary
from serving import telemetry
from serving.media import ImageLimits, sample_image
from serving.models.artifacts import open_artifact
from serving.models.model import Model, model_ref
from serving.offload import Threads, both
from serving.scheduling.scheduler import BatchingConfig

SPACE = "efficientnet-lite0"  # of the embeddings: 1280 pooled features at unit length


@dataclass(frozen=True, slots=True)
class Analysis:
    """What is known about one image."""

    quality: Quality
    tags: list[Tag]
    palette: list[Colour]
    embedding: NDArray[np.float32]  # (1280,), L2 norm 1
    sha256: str


@dataclass(frozen=True, slots=True)
class Analyzer:
    """The loaded models with their threads. Belongs to one event loop."""

    model: Model
    brisque: Brisque
    quality_ref: type_pb2.ModelRef
    vocabulary: Vocabulary
    threads: Threads
    limits: ImageLimits

    @classmethod
    @asynccontextmanager
    async def open(cls, config: ClipConfig) -> AsyncIterator[Self]:
        """Loads and warms everything. Raises `ArtifactError`."""
        classifier = open_artifact(config.model_repository, "efficientnet-lite0")
        judge = open_artifact(config.model_repository, "brisque")
        limits = ImageLimits(config.max_image_bytes, max_side_px=config.max_side_px)
        batching = BatchingConfig(config.max_batch_rows, max_queue_rows=config.max_queue_rows)
        model = Model.open(
            classifier, batching, instances=config.instances, threads=config.engine_threads
        )
        threads = Threads("images", config.image_threads, config.max_waiting_images)
        async with model, threads:
            analyzer = cls(
                model=model,
                brisque=Brisque.load(judge.path),
                quality_ref=model_ref(judge),
                vocabulary=Vocabulary.load(config.tags),
                threads=threads,
                limits=limits,
            )
            telemetry.announce(analyzer.quality_ref)
            await analyzer.analyze(sample_image())  # no caller pays for what is done first time
            yield analyzer

    async def analyze(self, content: bytes, field: str = "image") -> Analysis:
        """Analyses an encoded image; raises `InvalidRequestError` about `field`."""
        frame = await self._frame(content, field)
        measuring = self.threads.run(self._measure, frame.pixels)
        seen, (judged, pixel_tags, palette) = await both(self._infer(frame), measuring)
        tags = self.vocabulary.tags(seen["probabilities"][0])
        embedding = _unit(seen["features"][0])
        return Analysis(judged, [*tags, *pixel_tags], palette, embedding, frame.sha256)

    async def embed(self, content: bytes, field: str) -> NDArray[np.float32]:
        """Returns the (1280,) embedding of an encoded image, of L2 norm 1."""
        frame = await self._frame(content, field)
        return _unit((await self._infer(frame))["features"][0])

    async def _frame(self, content: bytes, field: str) -> Frame:
        return await self.threads.run(read_frame, content, self.limits, field)

    async def _infer(self, frame: Frame) -> dict[str, NDArray[Any]]:
        return await self.model.infer({"image": frame.crop[None]})

    def _measure(self, image: Pixels) -> tuple[Quality, list[Tag], list[Colour]]:
        return quality.assess(image, self.brisque), pixels.tags(image), pixels.palette(image)


def _unit(features: NDArray[np.float32]) -> NDArray[np.float32]:
    length = np.float32(np.linalg.norm(features))
    return features / max(length, np.float32(1e-12))
