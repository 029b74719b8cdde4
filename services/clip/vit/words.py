"""The words of a team's vocabulary as points in CLIP's space, and what they say of a picture.

    gate: 0.15                                # of a word's probability
    templates: ["a photo of a {}."]           # each word's sentences, averaged
    tags:
      - {tag: cat, also: [pet, animal]}
      - {tag: night, prompts: ["a photo taken at night."]}   # sentences of its own
    other: ["a photo of something."]          # what is no tag, and takes its share

A picture's probability is spread over all entries by how near their sentences lie (softmax at the
scale that the model was trained with); words of `also` add up what their entries have. What no
entry fits goes to `other`, and below the gate nothing is said. CLIP ranks a given set of sentences:
the probability of a word depends on which others are in the file.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Self

import numpy as np
import yaml
from numpy.typing import NDArray

from services.clip.tags import Tag
from services.clip.vit.prompts import Read, ensemble, probabilities
from serving.models.artifacts import ArtifactError

SHIPPED = Path(__file__).with_name("words.yaml")
SOURCE = "clip"
MAX_SENTENCES = 20_000  # of a vocabulary; each is read once at the start


@dataclass(frozen=True, slots=True)
class Entry:
    """One line of the vocabulary: empty `tag` is what is no tag."""

    tag: str
    also: tuple[str, ...]
    sentences: tuple[str, ...]  # >= 1


@dataclass(frozen=True, slots=True)
class Words:
    """A vocabulary whose sentences have been read."""

    gate: float  # 0 … 1
    entries: tuple[Entry, ...]
    points: NDArray[np.float32]  # (entries, size), L2 norm 1
    scale: float

    @classmethod
    async def load(cls, path: Path | None, read: Read, scale: float) -> Self:
        """Reads a vocabulary file, the shipped one by default. Raises `ArtifactError`."""
        path = path or SHIPPED
        try:
            document = yaml.safe_load(path.read_text(encoding="utf-8"))
            gate, entries = float(document["gate"]), _entries(document)
        except (OSError, yaml.YAMLError, KeyError, TypeError, ValueError, IndexError) as error:
            raise ArtifactError(f"vocabulary {path.name} is unusable: {error}") from error
        points = await ensemble([entry.sentences for entry in entries], read)
        return cls(gate, entries, points, scale)

    def tags(self, embedding: NDArray[np.float32]) -> list[Tag]:
        """Returns tags for a (size,) embedding: the most probable first, none below the gate."""
        shares = probabilities(embedding, self.points, self.scale)
        chosen = [at for at in np.argsort(-shares, kind="stable") if shares[at] >= self.gate]
        named = [self.entries[at] for at in chosen if self.entries[at].tag]
        totals = self._totals(shares)
        wider = [word for entry in named for word in entry.also]
        labels = dict.fromkeys([*(entry.tag for entry in named), *wider])
        return [Tag(label, min(totals[label], 1.0), SOURCE) for label in labels]

    def _totals(self, shares: NDArray[np.float64]) -> Mapping[str, float]:
        totals: dict[str, float] = {}
        for entry, share in zip(self.entries, shares, strict=True):
            for word in dict.fromkeys((entry.tag, *entry.also)):
                totals[word] = totals.get(word, 0.0) + float(share)
        return totals


def _entries(document: Mapping[str, Any]) -> tuple[Entry, ...]:
    templates = _texts("templates", document["templates"])
    if wrong := [template for template in templates if "{}" not in template]:
        raise ValueError(f"template {wrong[0]!r} has no {{}}")
    entries = [_entry(entry, templates) for entry in document["tags"]]
    entries += [Entry("", (), (text,)) for text in _texts("other", document.get("other", []))]
    tags = [entry.tag for entry in entries if entry.tag]
    if repeated := [tag for tag in tags if tags.count(tag) > 1]:
        raise ValueError(f"tag {repeated[0]!r} stands there twice")
    count = sum(len(entry.sentences) for entry in entries)
    if not tags or count > MAX_SENTENCES:
        raise ValueError(f"{len(tags)} tags with {count} sentences, 1 to {MAX_SENTENCES}")
    return tuple(entries)


def _entry(entry: Mapping[str, Any], templates: Sequence[str]) -> Entry:
    if unknown := sorted(set(entry) - {"tag", "also", "prompts"}):
        raise ValueError(f"a tag has the unknown key {unknown[0]!r}")
    (tag,) = _texts("tag", [entry["tag"]])
    own = _texts(f"prompts of {tag}", entry.get("prompts", []))
    sentences = own or tuple(template.replace("{}", tag) for template in templates)
    if not sentences:
        raise ValueError(f"tag {tag!r} has neither templates nor prompts")
    return Entry(tag, _texts(f"also of {tag}", entry.get("also", [])), sentences)


def _texts(label: str, values: Any) -> tuple[str, ...]:
    if not isinstance(values, list) or not all(isinstance(v, str) and v for v in values):
        raise ValueError(f"{label} is {values!r}, expected texts")
    return tuple(values)
