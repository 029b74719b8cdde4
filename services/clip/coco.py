"""From the detector's 80 scores to the words of a feed: a table over COCO's classes.

The detector has learned photographs of people and everyday things. A score is the height of a
centre's peak, no probability; the gates were set on the photographs of `photos.yaml` that are not
marked as held out. At 320 px a side the detector takes 23 ms on one core and finds what it finds at
512 in 77 ms, small objects excepted.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Self

import numpy as np
import yaml
from numpy.typing import NDArray
from PIL import Image

from services.clip.quality import Pixels
from services.clip.tags import Tag
from serving.models.artifacts import ArtifactError

HERE = Path(__file__).parent
SOURCE = "coco"
SIDE_PX = 320
CLASS_COUNT = 80
PERSON = 0  # index of the class


@dataclass(frozen=True, slots=True)
class Detected:
    """What the detector made of one picture."""

    scores: NDArray[np.float32]  # (80,), 0 … 1
    counts: NDArray[np.float32]  # (80,), how many of each


@dataclass(frozen=True, slots=True)
class Things:
    """What COCO's classes are called in a feed."""

    gate: float  # of a score that is told
    person_gate: float  # people are told from here
    words: tuple[tuple[str, ...], ...]  # of each class: its tag, then what it is besides

    @classmethod
    def load(cls) -> Self:
        """Reads `coco.yaml`. Raises `ArtifactError`."""
        document: Mapping[str, Any] = yaml.safe_load((HERE / "coco.yaml").read_text("utf-8"))
        words = tuple(tuple(str(name) for name in entry) for entry in document["classes"])
        if len(words) != CLASS_COUNT:
            raise ArtifactError(f"coco.yaml has {len(words)} classes, expected {CLASS_COUNT}")
        return cls(float(document["gate"]), float(document["person_gate"]), words)

    def tags(self, seen: Detected) -> list[Tag]:
        """Returns tags, the surest thing first, then what these things are besides."""
        told = [at for at in np.argsort(-seen.scores) if seen.scores[at] >= self._gate(at)]
        scores: dict[str, float] = {}
        for words in (self.words[at][:1] for at in told), (self.words[at][1:] for at in told):
            for at, names in zip(told, words, strict=True):
                for name in names:
                    scores.setdefault(name, float(seen.scores[at]))
        return [Tag(name, score, SOURCE) for name, score in scores.items()]

    def sees_person(self, seen: Detected) -> bool:
        """Whether it is worth looking for faces."""
        return bool(seen.scores[PERSON] >= self.person_gate)

    def _gate(self, at: int) -> float:
        return self.person_gate if at == PERSON else self.gate


def cut(pixels: Pixels) -> Pixels:
    """Returns the whole picture, squeezed to (320, 320, 3)."""
    image = Image.fromarray(pixels)
    return np.asarray(image.resize((SIDE_PX, SIDE_PX), Image.Resampling.BILINEAR, reducing_gap=2))
