"""Hashtags: made of labels, found in texts, never twice."""

import re
import unicodedata
from collections.abc import Iterable, Sequence

_FOUND = re.compile(r"#([^\s#.,;:!?()\[\]{}\"'“”‘’«»]+)")
_JOINERS = "\u200c\u200d"


def to_hashtag(label: str) -> str:
    """Returns `label` as one hashtag, "#GoldenRetriever" of "golden retriever"; "" of nothing.

    Every word gets a capital, which screen readers need to tell words apart. Letters, marks and
    digits of every script stay; the rest goes.
    """
    words = re.split(r"[\s\-]+", unicodedata.normalize("NFC", label).strip().lstrip("#"))
    kept = ["".join(char for char in word if _belongs(char)) for word in words]
    kept = [word for word in kept if word]
    if not kept:
        return ""
    if len(kept) == 1:
        return f"#{kept[0]}"
    return "#" + "".join(word[0].upper() + word[1:] for word in kept)


def without_repeats(hashtags: Iterable[str], text: str = "") -> list[str]:
    """Returns `hashtags` in order, each once, without those that `text` holds already."""
    seen = {_key(f"#{found}") for found in _FOUND.findall(text)} | {""}
    fresh = []
    for hashtag in hashtags:
        if _key(hashtag) not in seen:
            seen.add(_key(hashtag))
            fresh.append(hashtag)
    return fresh


def append(text: str, hashtags: Sequence[str], max_chars: int) -> str:
    """Returns `text` followed by as many of `hashtags` as fit into `max_chars` code points.

    They stand on a line of their own, so that scripts of different directions do not mix.
    """
    fresh = without_repeats(hashtags, text)
    separator = "\n" if text else ""
    for hashtag in fresh:
        longer = f"{text}{separator}{hashtag}"
        if len(longer) > max_chars:
            continue
        text, separator = longer, " "
    return text


def _key(hashtag: str) -> str:
    return unicodedata.normalize("NFKC", hashtag).casefold().strip("#")


def _belongs(char: str) -> bool:
    return unicodedata.category(char)[0] in "LMN" or char == "_" or char in _JOINERS
