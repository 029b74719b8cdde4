"""CLIP's tokenizer: text to token ids, equal to transformers' `CLIPTokenizer`.

Text is composed (NFC), white space becomes one space, letters become small; then words, single
digits and runs of anything else are split into bytes, and pairs of these are merged by rank. What
a letter or a digit is comes from this Python's Unicode tables.

A merge queue instead of repeated scans keeps a word of a megabyte from taking hours, and work
stops once the context is full.
"""

import heapq
import re
import unicodedata
from collections.abc import Iterator, Sequence
from functools import lru_cache
from itertools import pairwise

import numpy as np
from numpy.typing import NDArray

from services.clip.vit.vocabulary import END, START, Vocabulary, byte_letters

MAX_CACHED_WORDS = 16_384
MAX_CACHED_LETTERS = 64  # longer words are rare and would fill the cache's memory
_SPACES = "\t\n\x0b\x0c\r\x20\x85\xa0\u1680\u2000-\u200a\u2028\u2029\u202f\u205f\u3000"
_SPACE = re.compile(f"[{_SPACES}]+")
_SPECIAL = re.compile(f"({re.escape(START)}|{re.escape(END)})")
_FIXED = re.compile(f"{re.escape(START)}|{re.escape(END)}|'s|'t|'re|'ve|'m|'ll|'d")
_RUN = re.compile("L+|N|O+")  # over kinds of characters: letter, number, space, other


class _Kinds(dict[int, str]):
    """Kinds by code point, found when first asked for."""

    def __missing__(self, point: int) -> str:
        character = chr(point)
        category = unicodedata.category(character)[0]
        kind = category if category in "LN" else "S" if _SPACE.fullmatch(character) else "O"
        self[point] = kind
        return kind


class _Small(dict[int, str]):
    """Small letters by code point, each by itself: a final sigma is like any other."""

    def __missing__(self, point: int) -> str:
        self[point] = small = chr(point).lower()
        return small


class Tokenizer:
    """Encodes texts for one vocabulary. Safe to share between threads."""

    def __init__(self, vocabulary: Vocabulary, context: int) -> None:
        """`context` is the number of positions that the text tower has, ends included."""
        self._vocabulary, self._context = vocabulary, context
        self._letters = byte_letters()
        self._kinds, self._small = _Kinds(), _Small()
        self._cached = lru_cache(MAX_CACHED_WORDS)(self._merged)

    def encode(self, text: str) -> list[int]:
        """Returns the ids from start to end token, at most `context` of them."""
        ids: list[int] = []
        for word_ids in self._words(text):
            ids += word_ids
            if len(ids) >= self._context - 2:
                break
        return [self._vocabulary.start_id, *ids[: self._context - 2], self._vocabulary.end_id]

    def batch(self, texts: Sequence[str], multiple: int = 1) -> NDArray[np.int64]:
        """Returns (texts, length) ids; end tokens fill up to the longest, a multiple if it fits."""
        return self.filled([self.encode(text) for text in texts], multiple)

    def filled(self, encoded: Sequence[Sequence[int]], multiple: int = 1) -> NDArray[np.int64]:
        """Returns `batch` of texts that are encoded already."""
        longest = max(len(ids) for ids in encoded)
        length = min(-(-longest // multiple) * multiple, self._context)
        rows = np.full((len(encoded), length), self._vocabulary.end_id, np.int64)
        for row, ids in zip(rows, encoded, strict=True):
            row[: len(ids)] = ids
        return rows

    def _words(self, text: str) -> Iterator[Sequence[int]]:
        for part in _SPECIAL.split(text):
            if part in (START, END):
                yield (self._vocabulary.ids[part],)
            else:
                plain = _SPACE.sub(" ", unicodedata.normalize("NFC", part))
                yield from map(self._ids, self._split(plain.translate(self._small)))

    def _split(self, text: str) -> Iterator[str]:
        kinds = text.translate(self._kinds)
        at = 0
        while at < len(text):
            match = _FIXED.match(text, at) or _RUN.match(kinds, at)
            if match:
                yield from _parts(text[at : match.end()])
            at = match.end() if match else at + 1

    def _ids(self, word: str) -> Sequence[int]:
        return self._cached(word) if len(word) <= MAX_CACHED_LETTERS else self._merged(word)

    def _merged(self, word: str) -> Sequence[int]:
        symbols = [self._letters[byte] for byte in word.encode(errors="replace")]
        symbols[-1] += "</w>"
        unknown = self._vocabulary.end_id
        merged = merge(symbols, self._vocabulary)
        return tuple(self._vocabulary.ids.get(symbol, unknown) for symbol in merged)


def _parts(word: str) -> Sequence[str]:
    """A spelled-out special token is a word of three: brackets and letters are apart."""
    return (word[:2], word[2:-2], word[-2:]) if word in (START, END) else (word,)


def merge(symbols: Sequence[str], vocabulary: Vocabulary) -> list[str]:
    """Merges neighbours, the lowest rank first and among equals the leftmost, until none is left.

    Takes O(n log n) for n symbols: a heap of pairs over a doubly linked list.
    """
    texts: list[str] = list(symbols)
    after = [*range(1, len(texts)), -1]
    before = list(range(-1, len(texts) - 1))
    ranks = vocabulary.ranks
    queue = [(ranks[pair], at, *pair) for at, pair in enumerate(pairwise(texts)) if pair in ranks]
    heapq.heapify(queue)
    while queue:
        _, at, left, right = heapq.heappop(queue)
        nearby = after[at]
        if nearby < 0 or (texts[at], texts[nearby]) != (left, right):
            continue  # one of them has been merged since
        texts[at], texts[nearby] = left + right, ""
        after[at] = after[nearby]
        if after[at] >= 0:
            before[after[at]] = at
        for start in (before[at], at):
            if start >= 0 and after[start] >= 0:
                pair = (texts[start], texts[after[start]])
                if pair in ranks:
                    heapq.heappush(queue, (ranks[pair], start, *pair))
    return [text for text in texts if text]
