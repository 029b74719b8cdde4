"""Captions: the author's words, or words about the picture, then hashtags.

A draft is kept word for word (in normal form C); what templates add stands around it. A candidate's
score is the share of the known facts that it carries, a heuristic for ordering: the draft counts
as one fact, each of the author's hashtags and each of the first labels as another.
"""

import random
import unicodedata
from collections.abc import Sequence
from dataclasses import dataclass

from services.text.graphemes import shorten
from services.text.hashtags import append, to_hashtag, without_repeats
from services.text.templates import CaptionTemplate, Language

MAX_LABELS = 3  # of the picture's labels: more read like a list of keywords
MAX_CANDIDATES = 5


@dataclass(frozen=True, slots=True)
class CaptionFacts:
    """What is known about a post. Texts are in normal form C."""

    labels: tuple[str, ...]
    draft: str
    hashtags: tuple[str, ...]  # of the author, as "#word"

    @classmethod
    def of(cls, labels: Sequence[str], draft: str, hashtags: Sequence[str]) -> "CaptionFacts":
        """Normalises what a caller sent."""
        kept = (unicodedata.normalize("NFC", label).strip() for label in labels)
        return cls(
            tuple(label for label in kept if label)[:MAX_LABELS],
            unicodedata.normalize("NFC", draft).strip(),
            tuple(without_repeats(to_hashtag(hashtag) for hashtag in hashtags)),
        )


@dataclass(frozen=True, slots=True)
class Caption:
    """One proposed caption and its score, 0 to 1."""

    text: str
    score: float


def propose(
    facts: CaptionFacts, language: Language, tone: str, max_chars: int, seed: int
) -> list[Caption]:
    """Returns at least one caption, best first, all different, each at most `max_chars` long.

    The draft must fit into `max_chars`. Equally good wordings are shuffled by `seed`.
    """
    values = _values(facts)
    wordings = [t for t in language.captions if _fits(t, values, bool(facts.draft), tone)]
    random.Random(seed).shuffle(wordings)  # a choice of words, not a secret
    hashtags = (*facts.hashtags, *(to_hashtag(label) for label in facts.labels))
    texts = (_written(template, values) for template in _most_telling(wordings))
    fitting = (_fitted(text, facts.draft, max_chars) for text in texts)
    finished = dict.fromkeys(append(text, hashtags, max_chars) for text in fitting)
    captions = [Caption(text, _score(text, facts)) for text in finished]
    return sorted(captions, key=lambda caption: -caption.score)[:MAX_CANDIDATES]


def _values(facts: CaptionFacts) -> dict[str, str]:
    values = {"draft": facts.draft} if facts.draft else {}
    for number, label in enumerate(facts.labels, start=1):
        values |= {f"tag{number}": label, f"hash{number}": to_hashtag(label)}
    return {name: value for name, value in values.items() if value}


def _fits(template: CaptionTemplate, values: dict[str, str], has_draft: bool, tone: str) -> bool:
    """Whether the facts that a template speaks of are known, and it has the wanted tone.

    With a draft only templates that hold it; the plain one always, since it adds nothing.
    """
    names = _names(template)
    if not all(name in values for name in names) or ("draft" in names) is not has_draft:
        return False
    return tone in ("", template.tone) or template.text == "{draft}"


def _names(template: CaptionTemplate) -> list[str]:
    return [part.partition("}")[0] for part in template.text.split("{")[1:]]


def _written(template: CaptionTemplate, values: dict[str, str]) -> str:
    """Fills in the facts. A sentence of ours begins with a capital; the author's stays as it is."""
    text = template.text.format_map(values)
    return text if "draft" in values else text[:1].upper() + text[1:]


def _most_telling(wordings: Sequence[CaptionTemplate]) -> list[CaptionTemplate]:
    """Those that use the most facts: no empty phrase where something can be said."""
    most = max(len(_names(template)) for template in wordings)
    return [template for template in wordings if len(_names(template)) == most]


def _fitted(text: str, draft: str, max_chars: int) -> str:
    """What fits of `text`: the author's words are never cut, those of a template may be."""
    if len(text) <= max_chars:
        return text
    return draft or shorten(text, max_chars)


def _score(text: str, facts: CaptionFacts) -> float:
    carried = [bool(facts.draft)] if facts.draft else []
    carried += [not without_repeats([hashtag], text) for hashtag in facts.hashtags]
    lower = text.casefold()
    carried += [
        label.casefold() in lower or not without_repeats([to_hashtag(label)], text)
        for label in facts.labels
    ]
    return sum(carried) / len(carried) if carried else 0.0
