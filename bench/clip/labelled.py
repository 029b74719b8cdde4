"""Labelled photographs and what is said of them: which first tags are right, wrong, not there."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from services.clip.photos import Photo
from services.clip.tags import Tag

OF_CONTENT = {"imagenet", "coco", "faces"}
KINDS = {"illustration", "document"}
RIGHT, WRONG, SILENT = "right", "wrong", "silent"


@dataclass(frozen=True, slots=True)
class Judged:
    """One photograph with its first tag of content; "" and no source when there is none."""

    photo: Photo
    first: str
    source: str
    has_animal_or_food: bool

    @property
    def verdict(self) -> str:
        """`RIGHT`, `WRONG` or `SILENT`."""
        if not self.first:
            return SILENT
        return RIGHT if self.first in self.photo.expect else WRONG

    @property
    def is_misled(self) -> bool:
        """A picture of people, art, a page, a map or science that got an animal or a food."""
        return bool(self.photo.kind) and self.has_animal_or_food


def judged(photos: Sequence[Photo], found: Mapping[str, Sequence[Tag]]) -> list[Judged]:
    """Returns the verdicts, given the tags by the photographs' names."""
    return [_judged(photo, found[photo.name]) for photo in photos]


def _judged(photo: Photo, tags: Sequence[Tag]) -> Judged:
    told = [tag for tag in tags if tag.source in OF_CONTENT or tag.label in KINDS]
    first, source = (told[0].label, told[0].source) if told else ("", "")
    return Judged(photo, first, source, bool({tag.label for tag in tags} & {"animal", "food"}))


def count(results: Sequence[Judged], verdict: str) -> int:
    return sum(result.verdict == verdict for result in results)
