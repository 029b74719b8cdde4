"""The form of a caption: what stands in it beside words, counted one way wherever models learn and
wherever they answer.

A link has a scheme (`https://…`), begins with `www.`, or is a bare host that has a path
(`youtu.be/x`) or one of the oldest endings (`example.com`): any two words with a dot between them
would else be one. A mention is an @ with a letter or digit after it and none before, so that a mail
address is none; what stands in a link counts as the link alone. Shouting is the share of capitals
among the letters that have case, links and mentions left out. All three take time in proportion to
the length, whatever the text.
"""

import re
from dataclasses import dataclass

import numpy as np

MAX_CAPTION_CHARS = 5000
FORM = ("link_count", "mention_count", "caps_share")
_ENDINGS = frozenset({"com", "net", "org", "info", "biz", "gov", "edu"})
_ENDING_CHARS = range(2, 25)  # of the last part of a host
_HINT = re.compile(r"://|\.\w")  # in every link; found, or not, in a tenth of a search's time
# Possessive, and begun at the start of a word alone: no text makes it try a place twice.
_MAYBE_LINK = re.compile(
    r"(?P<whole>https?://[^\s\"'<>]++)"
    r"|(?<![\w@.\-])(?P<host>[\w\-]++(?:\.[\w\-]++)++)(?P<path>[/?#:][^\s\"'<>]*+)?(?!@)",
    re.IGNORECASE,
)
_MENTION = re.compile(r"(?<![\w@＠])[@＠]\w++")  # full width, as Japanese keyboards write it
_LAST_CASED = 0x1FFFF  # no letter beyond it has case


@dataclass(frozen=True, slots=True)
class Form:
    """What a caption has; the counts are at most its length."""

    link_count: int
    mention_count: int
    caps_share: float  # 0 to 1; 0 of a text without letters that have case


def form_of(caption: str) -> Form:
    """Counts what stands in a caption; an empty one has nothing of it."""
    links = 0

    def without(found: re.Match[str]) -> str:
        nonlocal links
        if not _is_link(found):
            return found[0]
        links += 1
        return " "

    text = _MAYBE_LINK.sub(without, caption) if _HINT.search(caption) else caption
    text, mentions = _MENTION.subn(" ", text) if "@" in text or "＠" in text else (text, 0)
    return Form(links, mentions, _caps_share(text))


def _is_link(found: re.Match[str]) -> bool:
    if found["whole"]:
        return True
    first, *_, last = found["host"].lower().split(".")
    if first == "www":
        return True
    path = found["path"] or ""
    is_ending = last.isalpha() and len(last) in _ENDING_CHARS
    return last in _ENDINGS or (is_ending and path.startswith("/") and len(path) > 1)


def _caps_share(text: str) -> float:
    codes = np.frombuffer(text.encode("utf-32-le", "surrogatepass"), dtype="<u4")
    _, small, capital = np.bincount(_CASES[np.minimum(codes, _LAST_CASED)], minlength=3).tolist()
    return capital / (small + capital) if capital else 0.0


def _cases() -> np.ndarray[tuple[int], np.dtype[np.uint8]]:
    """Returns 2 for each capital, 1 for each small letter, by code point: ten times as fast."""
    letters = map(chr, range(_LAST_CASED + 1))
    return np.array([2 * c.isupper() + c.islower() for c in letters], dtype=np.uint8)


_CASES = _cases()
