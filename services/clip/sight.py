"""What looks at pictures: one network with its words, whichever the configuration has chosen.

`services.clip.imagenet` is the classifier whose weights ship in a package; `services.clip.vit` is
CLIP from the operator's own weights. The analyzer is given one of them and does not ask which.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from fomofeed.type.v1 import type_pb2
from services.clip.quality import Pixels, Quality
from services.clip.tags import Tag
from serving.models.model import Model

Cut = Callable[[Pixels], Pixels]


@dataclass(frozen=True, slots=True)
class Seen:
    """What a network made of one picture."""

    tags: list[Tag]  # most specific first
    embedding: NDArray[np.float32]  # (size,), L2 norm 1


class Sight(Protocol):
    """A loaded and warmed network. Belongs to one event loop."""

    @property
    def space(self) -> str:
        """Name of the embedding space: other weights make another space."""
        ...

    @property
    def ref(self) -> type_pb2.ModelRef:
        """Who answers."""
        ...

    @property
    def quality_ref(self) -> type_pb2.ModelRef:
        """Who judges quality."""
        ...

    @property
    def models(self) -> Sequence[Model]:
        """What it runs on: they are served as tensors too."""
        ...

    @property
    def reads_text(self) -> bool:
        """Whether texts have a place in its space."""
        ...

    @property
    def enough_px(self) -> int | None:
        """The shorter side that a picture may be reduced to before `cut`; None: not at all."""
        ...

    @property
    def cut(self) -> Cut:
        """Makes the (side, side, 3) part of an upright picture that `see` looks at.

        It goes to another process: a function of a module or of a plain value.
        """
        ...

    async def see(self, crop: Pixels) -> Seen:
        """Looks at what `cut` made."""
        ...

    async def embed(self, crop: Pixels) -> NDArray[np.float32]:
        """Returns the embedding alone that `see` would."""
        ...

    def judge(self, measured: Quality, embedding: NDArray[np.float32]) -> Quality:
        """Returns the quality of a picture, given what was measured in its pixels."""
        ...

    async def read(self, texts: Sequence[str]) -> NDArray[np.float32]:
        """Returns (texts, size) embeddings; raises `NotImplementedHereError` without a tower."""
        ...

    async def classify(
        self, crop: Pixels, labels: Sequence[str], templates: Sequence[str]
    ) -> NDArray[np.float64]:
        """Returns (labels,) probabilities; raises `NotImplementedHereError` without a tower."""
        ...
