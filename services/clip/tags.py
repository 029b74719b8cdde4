"""From the classifier's 1000 probabilities to the words of a feed, or to silence.

ImageNet has no people, documents or scenes, and a classifier must still spread its probability
over what it has. So nothing is said unless the best class passes a gate; what is then said are
the curated groups of `tags.yaml`, whose probability is the sum over their classes, and what every
member of the group is besides. This is a table over ImageNet, not CLIP.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Self

import numpy as np
import yaml
from numpy.typing import NDArray

from serving.models.artifacts import ArtifactError

HERE = Path(__file__).parent
CLASS_COUNT = 1000
SOURCE = "imagenet"


@dataclass(frozen=True, slots=True)
class Tag:
    """A word for a picture, how sure, and which signal says so."""

    label: str
    probability: float  # 0 … 1
    source: str


@dataclass(frozen=True, slots=True)
class _Group:
    tag: str
    also: tuple[str, ...]
    classes: NDArray[np.intp]


class Vocabulary:
    """The groups of one tag file with the class names they refer to."""

    def __init__(self, names: Sequence[str], document: Mapping[str, Any]) -> None:
        """Raises `ArtifactError` for a class that is not, one named twice, or none."""
        self._names = tuple(names)
        self._gate = float(document["gate"])
        self._name_gate = float(document["name_gate"])
        self._groups = tuple(_group(entry) for entry in document["groups"])
        self._check()
        first = {name: at for at, name in reversed(list(enumerate(self._names)))}
        self._merged_at = np.array([first[name] for name in self._names])
        sizes = [len(group.classes) for group in self._groups]
        self._members = np.concatenate([group.classes for group in self._groups])
        self._starts = np.cumsum([0, *sizes[:-1]])

    @classmethod
    def load(cls, path: Path | None = None) -> Self:
        """Reads a tag file, the shipped one by default. Raises `ArtifactError`."""
        path = path or HERE / "tags.yaml"
        lines = (HERE / "imagenet_classes.txt").read_text(encoding="utf-8").splitlines()
        names = [line for line in lines if not line.startswith("#")]
        try:
            return cls(names, yaml.safe_load(path.read_text(encoding="utf-8")))
        except (OSError, yaml.YAMLError, KeyError, TypeError, ValueError) as error:
            raise ArtifactError(f"tag file {path.name} is unusable: {error}") from error

    def tags(self, probabilities: NDArray[np.float32]) -> list[Tag]:
        """Returns tags for (1000,) probabilities: most specific first, none below the gate."""
        merged = self._merged(probabilities)
        best = int(merged.argmax())
        if merged[best] < self._gate:
            return []
        sums: list[float] = np.add.reduceat(probabilities[self._members], self._starts).tolist()
        chosen = [at for at in np.argsort(sums)[::-1] if sums[at] >= self._gate]
        found = [Tag(self._groups[at].tag, sums[at], SOURCE) for at in chosen]
        if chosen and merged[best] >= self._name_gate and best in self._groups[chosen[0]].classes:
            found.insert(1, Tag(self._names[best], float(merged[best]), SOURCE))
        return _distinct([*found, *self._wider(chosen, sums)])

    def _wider(self, chosen: Sequence[int], sums: Sequence[float]) -> list[Tag]:
        """Returns what the chosen groups' members are besides, summed over all groups that are."""
        words = [word for at in chosen for word in self._groups[at].also]
        totals = {
            word: sum(
                total
                for group, total in zip(self._groups, sums, strict=True)
                if word == group.tag or word in group.also
            )
            for word in words
        }
        return [Tag(word, min(total, 1.0), SOURCE) for word, total in totals.items()]

    def _merged(self, probabilities: NDArray[np.float32]) -> NDArray[np.float64]:
        """Adds up classes that share a name (ImageNet has two missiles and two sunglasses)."""
        return np.asarray(np.bincount(self._merged_at, probabilities, CLASS_COUNT), np.float64)

    def _check(self) -> None:
        if len(self._names) != CLASS_COUNT:
            raise ArtifactError(f"{len(self._names)} class names, expected {CLASS_COUNT}")
        if not self._groups:
            raise ArtifactError("no groups: a tag file names at least one")
        seen: set[int] = set()
        for group in self._groups:
            if not group.classes.size:
                raise ArtifactError(f"tag {group.tag}: no classes")
            members = set(group.classes.tolist())
            if not members <= set(range(CLASS_COUNT)) or members & seen:
                raise ArtifactError(f"tag {group.tag}: a class is unknown or in another group too")
            seen |= members


def _group(entry: Mapping[str, Any]) -> _Group:
    numbers: list[int] = []
    for part in entry["classes"]:
        first, _, last = str(part).partition("-")
        numbers += range(int(first), int(last or first) + 1)
    return _Group(entry["tag"], tuple(entry["also"]), np.array(numbers, np.intp))


def _distinct(tags: Sequence[Tag]) -> list[Tag]:
    first: dict[str, Tag] = {}
    for tag in tags:
        first.setdefault(tag.label, tag)
    return list(first.values())
