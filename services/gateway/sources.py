"""The grammar of a source: where the value of a field comes from.

    request.caption      a field of the graph's request
    clip.quality_score   a field of a node's answer
    clip.tags[].label    a projection: one repeated field on the path, a repeated value comes out
    "text" 3 0.5 true    constants
    a.b, c.d[].e         several sources, for a repeated field, one after another

A field of a request or answer is named by a path of the same form: `reach.p50`, `tags[].label`.
Parsed once, when a graph is loaded.
"""

import json
import re
from dataclasses import dataclass

REQUEST = "request"  # the origin that is no node

_PATH = re.compile(r"[a-z_][a-z0-9_]*(\[\])?(\.[a-z_][a-z0-9_]*(\[\])?)*\Z")
_NUMBER = re.compile(r"-?\d+(\.\d+)?([eE][+-]?\d+)?\Z")
_PART = re.compile(r'\s*("(?:[^"\\]|\\.)*"|[^,"]+)\s*(?:,|\Z)')


class SourceError(ValueError):
    """A source or path is not written in the grammar; the message says what is."""


@dataclass(frozen=True, slots=True)
class Path:
    """Names of fields from the outside in, and which of them is walked over, -1 for none."""

    names: tuple[str, ...]
    repeated_at: int = -1

    def __str__(self) -> str:
        shown = [n + "[]" if i == self.repeated_at else n for i, n in enumerate(self.names)]
        return ".".join(shown)

    def overlaps(self, other: "Path") -> bool:
        """Whether one of the two paths leads into or through the other."""
        return all(mine == theirs for mine, theirs in zip(self.names, other.names, strict=False))


@dataclass(frozen=True, slots=True)
class FieldSource:
    """A field of the request (`origin` is "request") or of a node's answer."""

    origin: str
    path: Path

    def __str__(self) -> str:
        return f"{self.origin}.{self.path}"


@dataclass(frozen=True, slots=True)
class Constant:
    """A value that the graph file states."""

    value: str | int | float | bool

    def __str__(self) -> str:
        return json.dumps(self.value, ensure_ascii=False)


Source = FieldSource | Constant


def parse_path(text: str) -> Path:
    """Returns the path written as `text`; raises `SourceError`."""
    if not _PATH.match(text):
        raise SourceError(f"{text!r} is no path such as reach.p50 or tags[].label")
    parts = text.split(".")
    walked = [index for index, part in enumerate(parts) if part.endswith("[]")]
    if len(walked) > 1:
        raise SourceError(f"{text!r} has {len(walked)} repeated fields, at most 1")
    names = tuple(part.removesuffix("[]") for part in parts)
    return Path(names, walked[0] if walked else -1)


def parse_sources(text: str) -> tuple[Source, ...]:
    """Returns the sources written as `text`, at least one; raises `SourceError`."""
    sources: list[Source] = []
    position = 0
    while position < len(text) or not sources:
        part = _PART.match(text, position)
        if part is None:
            raise SourceError(f'{text!r} is no source: request.caption, clip.tags[].label, "text"')
        sources.append(_parse_one(part.group(1).strip()))
        position = part.end()
    return tuple(sources)


def _parse_one(text: str) -> Source:
    if text.startswith('"'):
        return _text(text)
    if text in ("true", "false"):
        return Constant(text == "true")
    if _NUMBER.match(text):
        return Constant(int(text) if text.lstrip("-").isdigit() else float(text))
    origin, dot, rest = text.partition(".")
    if not dot:
        raise SourceError(f"{text!r} names no field; write request.FIELD, NODE.FIELD or a constant")
    parse_path(origin)
    return FieldSource(origin, parse_path(rest))


def _text(text: str) -> Constant:
    try:
        value = json.loads(text)
    except ValueError as error:
        raise SourceError(f"{text} is no quoted text") from error
    return Constant(value)
