"""Token ids against transformers on many strings."""

import random
import unicodedata
from pathlib import Path

import pytest

transformers = pytest.importorskip("transformers")

from services.clip.vit.tokenizer import Tokenizer  # noqa: E402  # after the check for the extras
from tests.clip.reference_clip import vocabulary  # noqa: E402

pytestmark = pytest.mark.extras

ALPHABETS = (
    "abcdefghijklmnopqrstuvwxyz", "ABC XYZ", "0123456789 ½²Ⅷ", ".,!?'\"()-–—…#@&%$€",
    "áéíñöüßçÀÉÎŠžøÅæŒ", "αβγδεΣΩς", "абвгдеЖЗИЙ", "אבגדה שלום", "ابتثج مرحبا", "你好世界天气",
    "こんにちはカタカナ", "안녕하세요", "हिन्दी नमस्ते", "ไทยสวัสดี", "😀😂👍🏽❤️🔥🐕🎉", "👨‍👩‍👧‍👦🏳️‍🌈🇩🇪",
    "\t\n\r \x0b\x85\xa0\u2003\u3000",
    "\x00\x1f\x7f\u200b\u200d\ufeff\ufffd", "ǅﬁİıſK", "e\u0301a\u0308",
)  # fmt: skip
SNIPPETS = (
    "'s",
    "n't",
    "'LL ",
    "<|endoftext|>",
    "<|STARTOFTEXT|>",
    "<|startoftext|>",
    "!'re",
    "  ",
)


def strings(count: int) -> list[str]:
    """Seeded strings of mixed scripts, and of any characters that Unicode 3.2 knew."""
    source = random.Random(5)
    old = [chr(p) for p in range(0x20, 0x20000) if unicodedata.ucd_3_2_0.category(chr(p))[0] != "C"]
    found = ["", " "]
    while len(found) < count:
        if len(found) % 4 == 0:
            found.append("".join(source.choices(old, k=source.randrange(1, 20))))
            continue
        parts = []
        for _ in range(source.randrange(1, 9)):
            letters = source.choices(source.choice(ALPHABETS), k=source.randrange(0, 9))
            parts += [*letters, source.choice((*SNIPPETS, "", " ", " "))]
        found.append("".join(parts))
    return found


def test_token_ids_equal_those_of_transformers_on_ten_thousand_strings(tmp_path: Path) -> None:
    words = vocabulary()
    merges = [" ".join(pair) for pair in words.ranks]
    reference = transformers.CLIPTokenizer(vocab=dict(words.ids), merges=[*map(_pair, merges)])
    tokenizer = Tokenizer(words, 77)
    texts = [*strings(10_000), "a" * 1_000_000, "ab 12 é! " * 111_112]
    expected = reference(texts, truncation=True, max_length=77)["input_ids"]
    wrong = [
        text[:80]
        for text, ids in zip(texts, expected, strict=True)
        if tokenizer.encode(text) != ids
    ]
    assert wrong == []


def _pair(merge: str) -> tuple[str, str]:
    first, second = merge.split(" ")
    return first, second
