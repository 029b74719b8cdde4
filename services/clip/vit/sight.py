"""CLIP as the sight of the server: both towers, the vocabulary, the critic."""

import asyncio
import logging
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Self

import numpy as np
from numpy.typing import NDArray

from fomofeed.type.v1 import type_pb2
from services.clip.config import ClipConfig
from services.clip.quality import SHORT_SIDE_PX, Quality
from services.clip.sight import Cut, Seen
from services.clip.vit.build import Towers, build, built, scale_of, tokenizer_of
from services.clip.vit.checkpoint import Checkpoint, open_checkpoint
from services.clip.vit.critic import AestheticHead, Critic
from services.clip.vit.pictures import Pictures, Pixels
from services.clip.vit.prompts import ensemble, probabilities
from services.clip.vit.reader import Reader
from services.clip.vit.words import Words
from serving.models.artifacts import Artifact
from serving.models.folders import Verified
from serving.models.loading import load
from serving.models.model import Model, model_ref
from serving.models.options import ModelOptions
from serving.models.warm_up import Shapes
from serving.scheduling.scheduler import BatchingConfig

log = logging.getLogger(__name__)

WARM_UP_LENGTHS = (8, 16)  # tokens of labels and sentences
SPACE_DIGITS = 8


@dataclass(frozen=True, slots=True)
class ClipSight:
    """Both towers, loaded and warm. Belongs to one event loop."""

    image: Model
    text: Model
    reader: Reader
    words: Words
    critic: Critic
    pictures: Pictures
    scale: float  # of cosines, before a softmax
    space: str
    ref: type_pb2.ModelRef
    enough_px: int | None
    reads_text: bool = True

    @classmethod
    @asynccontextmanager
    async def open(cls, config: ClipConfig, weights: Path) -> AsyncIterator[Self]:
        """Loads and warms the towers, building them if the repository has none of these weights.

        Raises `ArtifactError`.
        """
        checkpoint = await asyncio.to_thread(open_checkpoint, weights)
        towers = await asyncio.to_thread(_towers, checkpoint, config)
        tokenizer = await asyncio.to_thread(tokenizer_of, checkpoint, config.model_repository)
        scale = scale_of(towers)
        size = checkpoint.architecture.embedding
        path = config.aesthetic_head
        head = None if path is None else AestheticHead.load(path, size)
        shapes = [{"ids": (-1, length)} for length in WARM_UP_LENGTHS]
        image_model = await asyncio.to_thread(_model, towers.image, config, config.instances, None)
        text_model = await asyncio.to_thread(_model, towers.text, config, 1, shapes)
        async with image_model, text_model:
            reader = Reader(text_model, tokenizer)
            yield cls(
                image=image_model,
                text=text_model,
                reader=reader,
                words=await Words.load(config.vocabulary, reader.read, scale),
                critic=await Critic.load(reader.read, scale, head),
                pictures=checkpoint.pictures,
                scale=scale,
                space=f"{checkpoint.architecture.name}-{checkpoint.digest[:SPACE_DIGITS]}",
                ref=_ref(checkpoint, towers),
                enough_px=None if config.exact_pixels else enough_px(checkpoint.pictures),
            )

    @property
    def quality_ref(self) -> type_pb2.ModelRef:
        """The critic reads the same embedding."""
        return self.ref

    @property
    def models(self) -> Sequence[Model]:
        return (self.image, self.text)

    @property
    def cut(self) -> Cut:
        """Makes the square that the image tower takes."""
        return self.pictures.cut

    async def see(self, crop: Pixels) -> Seen:
        """Looks at what `cut` made."""
        embedding = await self.embed(crop)
        return Seen(self.words.tags(embedding), embedding)

    async def embed(self, crop: Pixels) -> NDArray[np.float32]:
        """Returns the embedding alone."""
        row: NDArray[np.float32] = (await self.image.infer({"image": crop[None]}))["embedding"][0]
        return row

    def judge(self, measured: Quality, embedding: NDArray[np.float32]) -> Quality:
        """Returns CLIP's judgement beside what was measured."""
        return self.critic.judge(measured, embedding)

    async def read(self, texts: Sequence[str]) -> NDArray[np.float32]:
        """Returns (texts, size) embeddings of L2 norm 1."""
        return await self.reader.read(texts)

    async def classify(
        self, crop: Pixels, labels: Sequence[str], templates: Sequence[str]
    ) -> NDArray[np.float64]:
        """Returns (labels,) probabilities that add up to 1; each template holds one {}."""
        groups = [[template.replace("{}", label) for template in templates] for label in labels]
        points = await ensemble(groups, self.read)
        return probabilities(await self.embed(crop), points, self.scale)


def _towers(checkpoint: Checkpoint, config: ClipConfig) -> Towers:
    towers = built(checkpoint, config.model_repository, config.engine)
    if towers is None:
        log.info("%s: exporting the given weights", checkpoint.architecture.name)
        towers = build(checkpoint, config.model_repository, config.engine)
    for tower in (towers.image, towers.text):
        log.info("%s: %s", tower.manifest.name, tower.manifest.metric)
    return towers


def _model(
    tower: Artifact, config: ClipConfig, instances: int, shapes: Sequence[Shapes] | None
) -> Model:
    batching = BatchingConfig(config.max_batch_rows, max_queue_rows=config.max_queue_rows)
    options = ModelOptions(
        batching=batching,
        instances=instances,
        threads=config.engine_threads,
        device=config.device,
        engine=config.engine,
        precision=config.precision,
        allowed_rows=config.captured_rows,
        warm_up=None if shapes is None else tuple(shapes),
    )
    return load(Verified(tower.path, model_ref(tower), tower.manifest), options)


def enough_px(pictures: Pictures) -> int:
    """Twice the size looked at, so that the reduction costs nothing that can be seen."""
    return max(SHORT_SIDE_PX, 2 * pictures.shortest_px)


def _ref(checkpoint: Checkpoint, towers: Towers) -> type_pb2.ModelRef:
    """The pair of towers goes by the digest of the checkpoint."""
    manifest = towers.image.manifest
    return type_pb2.ModelRef(
        model=checkpoint.architecture.name,
        version=manifest.version,
        artifact_sha256=checkpoint.digest,
        trained_on=manifest.trained_on,
    )
