"""The notification: what the analysis found, in one breath; nothing about what is unknown."""

import random
import unicodedata
from collections.abc import Sequence
from dataclasses import dataclass

from services.text.graphemes import shorten
from services.text.templates import Language

_ISOLATE, _END = "\u2068", "\u2069"
_RIGHT_TO_LEFT = ("R", "AL")


@dataclass(frozen=True, slots=True)
class NotificationFacts:
    """What is known; None and "" mean unknown."""

    user_name: str
    optimal_hour: int | None  # 0 to 23, the author's time
    engagement_score: float | None  # 0 to 100
    quality_score: float | None  # 0 to 10
    caption: str


def notify(facts: NotificationFacts, language: Language, max_chars: int, seed: int) -> str:
    """Returns the notification, at most `max_chars` code points.

    Sentences are dropped from the end, the least important last, rather than cut; only a first
    sentence that is itself too long is shortened.
    """
    wordings = random.Random(seed)  # a choice of words, not a secret
    first, *others = _sentences(facts, language, wordings)
    text = shorten(first, max_chars)
    for sentence in others:
        longer = f"{text} {sentence}"
        if len(longer) <= max_chars:
            text = longer
    return text


def _sentences(facts: NotificationFacts, language: Language, wordings: random.Random) -> list[str]:
    """All that can be said, most important first."""

    def say(variants: Sequence[str], **values: str) -> str:
        return wordings.choice(variants).format(**values)

    name = quoted(facts.user_name)
    said = [say(language.greeting, name=name) if name else say(language.greeting_without_name)]
    if facts.optimal_hour is not None:
        said.append(say(language.hour_sentence, hour=language.time(facts.optimal_hour)))
    if facts.engagement_score is not None:
        score = language.number(facts.engagement_score)
        said.append(say(language.score_sentence, score=score))
    if facts.quality_score is not None:
        quality = language.number(facts.quality_score, 1)
        said.append(say(language.quality_sentence, quality=quality))
    if caption := quoted(facts.caption):
        said.append(say(language.caption_sentence, caption=caption))
    return said


def quoted(text: str) -> str:
    """Returns somebody's words ready to stand inside a sentence: one line, normal form C.

    Control characters go, those that turn the direction of text among them; words written from
    right to left are isolated, so that they do not turn the sentence around them.
    """
    one_line = " ".join(unicodedata.normalize("NFC", text).split())
    kept = "".join(char for char in one_line if not _is_control(char))
    if any(unicodedata.bidirectional(char) in _RIGHT_TO_LEFT for char in kept):
        return f"{_ISOLATE}{kept}{_END}"
    return kept


def _is_control(char: str) -> bool:
    turns = "\u202a" <= char <= "\u202e" or "\u2066" <= char <= "\u2069"
    return turns or char in "\u200e\u200f\u061c" or unicodedata.category(char) == "Cc"
