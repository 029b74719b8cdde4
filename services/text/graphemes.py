"""User-perceived characters: where a text may be cut without breaking one.

Follows the rules of Unicode Standard Annex 29 that matter for real text (GB3, GB6-GB9a, GB11,
GB12/13), with Python's own character data. It errs towards not cutting: after a zero width joiner
never, whatever follows.
"""

import unicodedata
from collections.abc import Iterator

_JOINER = "\u200d"
_JOINERS = (_JOINER, "\u200c")
_ELLIPSIS = "…"


def clusters(text: str) -> Iterator[str]:
    """Yields the grapheme clusters of `text`; together they are `text`."""
    start = 0
    for index in range(1, len(text)):
        if not _belong_together(text, start, index):
            yield text[start:index]
            start = index
    if text:
        yield text[start:]


def shorten(text: str, max_chars: int) -> str:
    """Returns `text` cut to at most `max_chars` code points, between clusters, with an ellipsis."""
    if len(text) <= max_chars:
        return text
    kept = ""
    for cluster in clusters(text):
        if len(kept) + len(cluster) + len(_ELLIPSIS) > max_chars:
            break
        kept += cluster
    return kept.rstrip() + _ELLIPSIS


def _belong_together(text: str, start: int, index: int) -> bool:
    """Whether the characters on both sides of `index` are of the cluster that began at `start`."""
    before, after = text[index - 1], text[index]
    if before == "\r" and after == "\n":
        return True
    if unicodedata.category(before) == "Cc" or unicodedata.category(after) == "Cc":
        return False
    if _extends(after) or before == _JOINER:
        return True
    if _is_flag(before) and _is_flag(after):
        return (index - start) % 2 == 1  # flags are pairs
    return _is_hangul_pair(before, after)


def _extends(char: str) -> bool:
    code = ord(char)
    return (
        char in _JOINERS
        or unicodedata.category(char) in ("Mn", "Me", "Mc")
        or 0x1F3FB <= code <= 0x1F3FF  # skin tones
        or 0xE0020 <= code <= 0xE007F  # tags, as in the flag of Scotland
        or 0xFF9E <= code <= 0xFF9F  # halfwidth voiced marks
    )


def _is_flag(char: str) -> bool:
    return 0x1F1E6 <= ord(char) <= 0x1F1FF


def _is_hangul_pair(before: str, after: str) -> bool:
    """Leading consonant, vowel and trailing consonant of one syllable (GB6 to GB8)."""
    first, second = _hangul(before), _hangul(after)
    return (
        second
        in {"L": "L V LV LVT", "V": "V T", "LV": "V T", "T": "T", "LVT": "T"}.get(first, "").split()
    )


def _hangul(char: str) -> str:
    code = ord(char)
    if 0xAC00 <= code <= 0xD7A3:
        return "LV" if (code - 0xAC00) % 28 == 0 else "LVT"
    ranges = (("L", 0x1100, 0x115F), ("V", 0x1160, 0x11A7), ("T", 0x11A8, 0x11FF))
    return next((name for name, low, high in ranges if low <= code <= high), "")
