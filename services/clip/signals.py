"""What looks at a picture beside the network: detector and faces, each optional.

The detector knows people and everyday things, which ImageNet's classes leave out. It is dearer than
the classifier (23 ms against 12 on one core), so by default it looks only where the sight knows
nothing to say; faces are looked for only where it sees a person. An artifact that is not in the
repository is a signal that is absent: told once in the log, and in every answer.
"""

import logging
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Self

from services.clip import coco, drawn, faces, tags
from services.clip.coco import Detected, Things
from services.clip.preprocess import Details, Pixels
from services.clip.tags import Tag
from serving.models.artifacts import open_artifact
from serving.models.model import Model
from serving.scheduling.scheduler import BatchingConfig

log = logging.getLogger(__name__)

ALWAYS, UNSURE, NEVER = "always", "unsure", "never"
DETECT = (ALWAYS, UNSURE, NEVER)  # when the detector looks
_OF_PHOTOGRAPHS = (tags.SOURCE, coco.SOURCE, faces.SOURCE)
_MAX_QUEUE_ROWS = 512


@dataclass(frozen=True, slots=True)
class Signals:
    """The loaded signals. Belongs to one event loop."""

    things: Things
    detect: str  # one of DETECT
    detector: Model | None = None
    face_finder: Model | None = None

    @classmethod
    @asynccontextmanager
    async def open(cls, repository: Path, detect: str) -> AsyncIterator[Self]:
        """Loads and warms what is there. Raises `ArtifactError` for an altered artifact."""
        async with AsyncExitStack() as stack:
            models: list[Model | None] = [None, None]
            for at, name in enumerate(("centernet", "blazeface")):
                if detect != NEVER and (model := _load(repository, name)):
                    models[at] = await stack.enter_async_context(model)
            yield cls(Things.load(), detect, *models)

    @property
    def models(self) -> Sequence[Model]:
        """What they run on."""
        return [model for model in (self.detector, self.face_finder) if model is not None]

    @property
    def names(self) -> list[str]:
        """The sources that tags may have beside the sight's."""
        found = [coco.SOURCE] if self.detector else []
        found += [faces.SOURCE] if self.detector and self.face_finder else []
        return [*found, drawn.SOURCE]

    async def look(
        self, details: Callable[[], Awaitable[Details]], seen: Sequence[Tag]
    ) -> list[Tag]:
        """Returns the tags of a picture of which the sight has `seen` so much.

        `details` is only called where the detector looks.
        """
        if self.detector is None or (seen and self.detect != ALWAYS):
            return list(seen)
        shown = await details()
        rows = await self.detector.infer({"image": shown.thing[None]})
        detected = Detected(rows["scores"][0], rows["counts"][0])
        things = self.things.tags(detected)
        if any(tag.label == "animal" for tag in seen):  # the sight's animals are the finer ones
            things = [tag for tag in things if tag.label in ("person", "people")]
        people = await self._people(shown.face) if self.things.sees_person(detected) else []
        return distinct([*people, *seen, *things])

    async def _people(self, image: Pixels) -> list[Tag]:
        if self.face_finder is None:
            return []
        rows = await self.face_finder.infer({"image": image[None]})
        return faces.tags(faces.found(rows["scores"][0], rows["boxes"][0]))


def joined(content: Sequence[Tag], kind: Sequence[Tag], pixels: Sequence[Tag]) -> list[Tag]:
    """Puts together what was seen, whether it is a drawing or a page, and the pixels' tags.

    Classifier and detector have learned photographs: of a drawing or a page they say nothing here.
    But what a classifier is sure of is no page: a plain background looks like paper, too.
    """
    if any(tag.label == drawn.DOCUMENT for tag in kind) and any(
        tag.source == tags.SOURCE for tag in content
    ):
        kind = []
    known = [tag for tag in content if not kind or tag.source not in _OF_PHOTOGRAPHS]
    return distinct([*kind, *known, *pixels])


def distinct(tags: Sequence[Tag]) -> list[Tag]:
    """Leaves out a label that came before, from whatever source."""
    first: dict[str, Tag] = {}
    for tag in tags:
        first.setdefault(tag.label, tag)
    return list(first.values())


def _load(repository: Path, name: str) -> Model | None:
    if not (repository / name).is_dir():
        log.info("%s: absent, so its tags are; `fomofeed models pull` builds it", name)
        return None
    artifact = open_artifact(repository, name)
    batching = BatchingConfig(artifact.manifest.max_batch_rows, max_queue_rows=_MAX_QUEUE_ROWS)
    return Model.open(artifact, batching)
