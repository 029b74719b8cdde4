"""The words: read once from the template file, found by locale."""

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Any

import yaml

from fomofeed.type.v1 import type_pb2

FALLBACK = "en"


class TemplateError(ValueError):
    """The template file cannot be used; the message says which locale and key."""


@dataclass(frozen=True, slots=True)
class CaptionTemplate:
    """One wording of a caption."""

    tone: str
    text: str


@dataclass(frozen=True, slots=True)
class Language:
    """Everything that is said in one language. Lists are wordings to choose from."""

    decimal: str
    hour: str  # with {hour24}, or {hour12} and {half}
    halves: tuple[str, ...]  # of the day
    captions: tuple[CaptionTemplate, ...]
    greeting: tuple[str, ...]
    greeting_without_name: tuple[str, ...]
    hour_sentence: tuple[str, ...]
    score_sentence: tuple[str, ...]
    quality_sentence: tuple[str, ...]
    caption_sentence: tuple[str, ...]

    def number(self, value: float, digits: int = 0) -> str:
        """Writes a number as the language does."""
        return f"{value:.{digits}f}".replace(".", self.decimal)

    def time(self, hour: int) -> str:
        """Writes an hour of day, 0 to 23, as the language does."""
        return self.hour.format(
            hour24=hour, hour12=(hour - 1) % 12 + 1, half=self.halves[hour // 12]
        )


@dataclass(frozen=True, slots=True)
class Templates:
    """All languages of one file, and the reference that every answer carries."""

    languages: Mapping[str, Language]
    ref: type_pb2.ModelRef

    def language(self, locale: str) -> Language:
        """Returns the language of a BCP 47 tag: the locale's own, its language's, or English."""
        name = locale.replace("_", "-").lower()
        while name not in self.languages and "-" in name:
            name = name.rpartition("-")[0]
        return self.languages.get(name) or self.languages[FALLBACK]


def read_templates(path: Path) -> Templates:
    """Reads a template file; raises `TemplateError`."""
    content = path.read_bytes()
    try:
        document = yaml.safe_load(content)
        languages = {
            name.lower(): _language(name, entries) for name, entries in document["locales"].items()
        }
        version = str(document["version"])
    except (yaml.YAMLError, KeyError, TypeError, AttributeError) as error:
        raise TemplateError(f"{path.name} is no template file: {error!r}") from error
    if FALLBACK not in languages:
        raise TemplateError(f"{path.name} has no locale {FALLBACK}, the one others fall back to")
    ref = type_pb2.ModelRef(
        model="templates",
        version=version,
        artifact_sha256=hashlib.sha256(content).hexdigest(),
        experimental=True,
        trained_on="none",
    )
    return Templates(languages, ref)


def _language(name: str, entries: Mapping[str, Any]) -> Language:
    expected = {field.name for field in fields(Language)}
    if set(entries) != expected:
        wrong = ", ".join(sorted(set(entries) ^ expected))
        raise TemplateError(f"locale {name} lacks or should not have: {wrong}")
    values: dict[str, Any] = {
        key: tuple(value) if isinstance(value, list) else str(value)
        for key, value in entries.items()
    }
    values["captions"] = tuple(CaptionTemplate(**entry) for entry in entries["captions"])
    return Language(**values)
