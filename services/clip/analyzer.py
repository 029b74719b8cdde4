"""Looks at one image with everything this server has; knows no gRPC.

An image is decoded in a process beside, which goes on to measure quality, palette and pixel
statistics, while the networks run here on their instances' threads, one after the other.
"""

import asyncio
import hashlib
from collections.abc import AsyncIterator, Awaitable, Coroutine, Sequence
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from dataclasses import dataclass, replace
from typing import Any, Self

import numpy as np
from numpy.typing import NDArray

from services.clip import quality
from services.clip.cache import ContentCache
from services.clip.config import ClipConfig
from services.clip.fingerprint import fingerprint
from services.clip.imagenet import ImagenetSight
from services.clip.pixels import Colour
from services.clip.preprocess import Cuts, Details, Pixels, Preprocessor
from services.clip.quality import Quality
from services.clip.sight import Seen, Sight
from services.clip.signals import ALWAYS, Signals, joined
from services.clip.tags import Tag
from services.clip.vit.sight import ClipSight
from serving import request, telemetry
from serving.media import ImageLimits, sample_image
from serving.offload import both
from serving.processes import Processes

_BYTES_OF_ONE = 160  # of a tag, a colour or an aspect: object, text, numbers


@dataclass(frozen=True, slots=True)
class Analysis:
    """What is known about one image."""

    quality: Quality
    tags: list[Tag]
    palette: list[Colour]
    embedding: NDArray[np.float32]  # (size,), L2 norm 1, in the sight's space
    sha256: str

    def size_bytes(self) -> int:
        """About how much memory it takes."""
        return self.embedding.nbytes + _BYTES_OF_ONE * (len(self.tags) + len(self.palette) + 8)


@dataclass(frozen=True, slots=True)
class Analyzer:
    """The loaded models with their threads. Belongs to one event loop."""

    sight: Sight
    signals: Signals
    preprocessor: Preprocessor
    processes: Processes
    cache: ContentCache[Analysis]
    fingerprint: bytes  # of all that an analysis depends on beside its image

    @classmethod
    @asynccontextmanager
    async def open(cls, config: ClipConfig) -> AsyncIterator[Self]:
        """Loads and warms everything. Raises `ArtifactError`."""
        limits = ImageLimits(config.max_image_bytes, max_side_px=config.max_side_px)
        async with (
            Processes("images", config.image_processes, config.max_waiting_images) as processes,
            _sight(config) as sight,
            Signals.open(config.model_repository, config.detect) as signals,
        ):
            with_details = config.detect == ALWAYS and signals.detector is not None
            refs = [sight.ref, sight.quality_ref, quality.REF]
            refs += [model.ref for model in signals.models]
            analyzer = cls(
                sight=sight,
                signals=signals,
                preprocessor=Preprocessor(limits, sight.enough_px, sight.cut, with_details),
                processes=processes,
                cache=ContentCache(config.cache_bytes, Analysis.size_bytes),
                fingerprint=fingerprint(config, refs),
            )
            telemetry.announce(sight.quality_ref)
            await analyzer.analyze(sample_image())  # no caller pays for what is done first time
            yield analyzer

    async def analyze(self, content: bytes, field: str = "image") -> Analysis:
        """Analyses an encoded image, or remembers; raises `InvalidRequestError` about `field`."""
        digest = hashlib.sha256(content)

        def compute() -> Coroutine[Any, Any, Analysis]:
            return self._analyze(content, digest.hexdigest(), field)

        found = await self.cache.get(self.fingerprint, digest.digest(), compute)
        request.current().ledger.model = self.sight.ref
        return found

    async def _analyze(self, content: bytes, sha256: str, field: str) -> Analysis:
        cuts: asyncio.Future[Cuts] = asyncio.get_running_loop().create_future()

        def show(part: Cuts) -> None:
            if not cuts.done():
                cuts.set_result(part)

        seen, measured = await both(
            self._see(cuts, content, field),
            self.processes.follow(show, self.preprocessor.analyze, content, field),
        )
        judged = self.sight.judge(measured.quality, seen.embedding)
        tags = joined(seen.tags, measured.kind, measured.tags)
        return Analysis(judged, tags, measured.palette, seen.embedding, sha256)

    async def _see(self, coming: Awaitable[Cuts], content: bytes, field: str) -> Seen:
        cuts = await coming

        async def details() -> Details:
            """Decoded again: few pictures need them, and all would have to carry them here."""
            if cuts.details is not None:
                return cuts.details
            return await self.processes.run(self.preprocessor.details, content, field)

        seen = await self.sight.see(cuts.crop)
        return replace(seen, tags=await self.signals.look(details, seen.tags))

    async def embed(self, content: bytes, field: str) -> NDArray[np.float32]:
        """Returns the (size,) embedding of an encoded image, of L2 norm 1."""
        return await self.sight.embed(await self._crop(content, field))

    async def read(self, texts: Sequence[str]) -> NDArray[np.float32]:
        """Returns (texts, size) embeddings, each of L2 norm 1."""
        return await self.sight.read(texts)

    async def classify(
        self, content: bytes, labels: Sequence[str], templates: Sequence[str]
    ) -> NDArray[np.float64]:
        """Returns the probability of each label for an encoded image."""
        crop = await self._crop(content, "image")
        return await self.sight.classify(crop, labels, templates)

    async def _crop(self, content: bytes, field: str) -> Pixels:
        return await self.processes.run(self.preprocessor.crop, content, field)


def _sight(config: ClipConfig) -> AbstractAsyncContextManager[Sight]:
    """The operator's CLIP weights if there are any, else the embedded classifier."""
    if config.weights is not None:
        return ClipSight.open(config, config.weights)
    return ImagenetSight.open(config)
