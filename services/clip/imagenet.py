"""The embedded sight: EfficientNet-Lite0's ImageNet classes and features."""

from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import Any, NoReturn, Self

import numpy as np
from numpy.typing import NDArray

from fomofeed.type.v1 import type_pb2
from services.clip.config import ClipConfig
from services.clip.preprocess import centre_square
from services.clip.quality import REF, SHORT_SIDE_PX, Pixels, Quality
from services.clip.sight import Cut, Seen
from services.clip.tags import Vocabulary
from serving.errors import NotImplementedHereError
from serving.models.artifacts import open_artifact
from serving.models.model import Model
from serving.scheduling.scheduler import BatchingConfig

NAME = "efficientnet-lite0"


@dataclass(frozen=True, slots=True)
class ImagenetSight:
    """The classifier with its tag file. Knows no texts."""

    model: Model
    vocabulary: Vocabulary
    space: str = NAME  # 1280 pooled features at unit length
    reads_text: bool = False
    enough_px: int | None = SHORT_SIDE_PX

    @classmethod
    @asynccontextmanager
    async def open(cls, config: ClipConfig) -> AsyncIterator[Self]:
        """Loads and warms the classifier. Raises `ArtifactError`."""
        artifact = open_artifact(config.model_repository, NAME)
        batching = BatchingConfig(config.max_batch_rows, max_queue_rows=config.max_queue_rows)
        vocabulary = Vocabulary.load(config.tags)
        async with Model.open(
            artifact, batching, instances=config.instances, threads=config.engine_threads
        ) as model:
            yield cls(model, vocabulary)

    @property
    def ref(self) -> type_pb2.ModelRef:
        return self.model.ref

    @property
    def quality_ref(self) -> type_pb2.ModelRef:
        """The plain measurements: ImageNet knows nothing about quality."""
        return REF

    @property
    def models(self) -> Sequence[Model]:
        return (self.model,)

    @property
    def cut(self) -> Cut:
        """Makes the centre square, 224 px a side."""
        return centre_square

    async def see(self, crop: Pixels) -> Seen:
        """Looks at what `cut` made."""
        seen = await self.model.infer({"image": crop[None]})
        return Seen(self.vocabulary.tags(seen["probabilities"][0]), _unit(seen["features"][0]))

    async def embed(self, crop: Pixels) -> NDArray[np.float32]:
        """Returns the embedding alone."""
        return _unit((await self.model.infer({"image": crop[None]}))["features"][0])

    def judge(self, measured: Quality, embedding: NDArray[np.float32]) -> Quality:
        """Returns what was measured: ImageNet knows nothing about quality."""
        return measured

    async def read(self, texts: Sequence[str]) -> NDArray[np.float32]:
        """Refuses: there is no text tower."""
        _refuse("embedding of texts")

    async def classify(
        self, crop: Pixels, labels: Sequence[str], templates: Sequence[str]
    ) -> NDArray[np.float64]:
        """Refuses: there is no text tower."""
        _refuse("classification by the caller's labels")


def _refuse(capability: str) -> NoReturn:
    raise NotImplementedHereError(capability, "it needs a model with a text tower")


def _unit(features: NDArray[Any]) -> NDArray[np.float32]:
    length = np.float32(np.linalg.norm(features))
    return np.asarray(features / max(length, np.float32(1e-12)), np.float32)
