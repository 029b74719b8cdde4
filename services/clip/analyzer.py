"""Looks at one image with everything this server has; knows no gRPC.

An image is decoded on a thread; then the network runs on its instance's thread while quality,
palette and pixel statistics are measured on another.
"""

from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import Self

import numpy as np
from numpy.typing import NDArray

from services.clip import pixels, quality
from services.clip.brisque import Brisque
from services.clip.config import ClipConfig
from services.clip.frame import Frame, read_frame
from services.clip.imagenet import ImagenetSight
from services.clip.pixels import Colour
from services.clip.quality import Pixels, Quality
from services.clip.sight import Sight
from services.clip.tags import Tag
from serving import telemetry
from serving.media import ImageLimits, sample_image
from serving.models.artifacts import open_artifact
from serving.models.model import model_ref
from serving.offload import Threads, both


@dataclass(frozen=True, slots=True)
class Analysis:
    """What is known about one image."""

    quality: Quality
    tags: list[Tag]
    palette: list[Colour]
    embedding: NDArray[np.float32]  # (size,), L2 norm 1, in the sight's space
    sha256: str


@dataclass(frozen=True, slots=True)
class Analyzer:
    """The loaded models with their threads. Belongs to one event loop."""

    sight: Sight
    brisque: Brisque
    threads: Threads
    limits: ImageLimits

    @classmethod
    @asynccontextmanager
    async def open(cls, config: ClipConfig) -> AsyncIterator[Self]:
        """Loads and warms everything. Raises `ArtifactError`."""
        judge = open_artifact(config.model_repository, "brisque")
        limits = ImageLimits(config.max_image_bytes, max_side_px=config.max_side_px)
        threads = Threads("images", config.image_threads, config.max_waiting_images)
        async with ImagenetSight.open(config, model_ref(judge)) as sight, threads:
            analyzer = cls(sight, Brisque.load(judge.path), threads, limits)
            telemetry.announce(sight.quality_ref)
            await analyzer.analyze(sample_image())  # no caller pays for what is done first time
            yield analyzer

    async def analyze(self, content: bytes, field: str = "image") -> Analysis:
        """Analyses an encoded image; raises `InvalidRequestError` about `field`."""
        frame = await self._frame(content, field)
        measuring = self.threads.run(self._measure, frame.pixels)
        seen, (measured, pixel_tags, palette) = await both(self.sight.see(frame.crop), measuring)
        judged = self.sight.judge(measured, seen.embedding)
        tags = [*seen.tags, *pixel_tags]
        return Analysis(judged, tags, palette, seen.embedding, frame.sha256)

    async def embed(self, content: bytes, field: str) -> NDArray[np.float32]:
        """Returns the (size,) embedding of an encoded image, of L2 norm 1."""
        frame = await self._frame(content, field)
        return (await self.sight.see(frame.crop)).embedding

    async def classify(
        self, content: bytes, labels: Sequence[str], templates: Sequence[str]
    ) -> NDArray[np.float64]:
        """Returns the probability of each label for an encoded image."""
        frame = await self._frame(content, "image")
        return await self.sight.classify(frame.crop, labels, templates)

    async def _frame(self, content: bytes, field: str) -> Frame:
        return await self.threads.run(read_frame, content, self.limits, self.sight, field)

    def _measure(self, image: Pixels) -> tuple[Quality, list[Tag], list[Colour]]:
        return quality.assess(image, self.brisque), pixels.tags(image), pixels.palette(image)
