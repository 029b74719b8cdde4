"""CLIP's byte-pair vocabulary, from whichever of its files lies beside the weights.

`tokenizer.json`; or `vocab.json` with `merges.txt`; or OpenAI's `bpe_simple_vocab_16e6.txt.gz`,
which holds the merges alone and of which the vocabulary follows.
"""

import gzip
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from services.clip.vit.errors import CheckpointError

START, END = "<|startoftext|>", "<|endoftext|>"
MERGES_FILE = "bpe_simple_vocab_16e6.txt.gz"
_MERGE_COUNT = 49152 - 256 - 2  # of the file's 262,144, as OpenAI's tokenizer reads it


@dataclass(frozen=True, slots=True)
class Vocabulary:
    """Tokens by their text, and the order in which pairs of them are merged."""

    ids: Mapping[str, int]
    ranks: Mapping[tuple[str, str], int]

    def __post_init__(self) -> None:
        for token in (START, END):
            if token not in self.ids:
                raise CheckpointError(f"the vocabulary has no {token}")

    @property
    def start_id(self) -> int:
        return self.ids[START]

    @property
    def end_id(self) -> int:
        return self.ids[END]


def vocabulary_files(folder: Path) -> tuple[Path, ...]:
    """Returns the files of a folder that hold its vocabulary; none if it has none."""
    for names in (("tokenizer.json",), ("vocab.json", "merges.txt"), (MERGES_FILE,)):
        paths = tuple(folder / name for name in names)
        if all(path.is_file() for path in paths):
            return paths
    return ()


def read_vocabulary(files: Sequence[Path]) -> Vocabulary:
    """Reads what `vocabulary_files` has found. Raises `CheckpointError`."""
    try:
        if files[0].name == MERGES_FILE:
            return from_merges(files[0].read_bytes())
        if len(files) == 1:
            model = json.loads(files[0].read_text(encoding="utf-8"))["model"]
            return _vocabulary(model["vocab"], [_pair(merge) for merge in model["merges"]])
        ids = json.loads(files[0].read_text(encoding="utf-8"))
        lines = files[1].read_text(encoding="utf-8").split("\n")
        merges = [_pair(line) for line in lines if line and not line.startswith("#version")]
        return _vocabulary(ids, merges)
    except (OSError, EOFError, ValueError, KeyError, TypeError, AttributeError) as error:
        raise CheckpointError(f"{files[0].name} is no vocabulary: {error}") from error


def from_merges(content: bytes) -> Vocabulary:
    """Derives the vocabulary from OpenAI's file of merges."""
    lines = gzip.decompress(content).decode().split("\n")[1 : _MERGE_COUNT + 1]
    merges = [_pair(line) for line in lines]
    letters = list(byte_letters().values())
    tokens = [*letters, *(f"{letter}</w>" for letter in letters)]
    tokens += ["".join(pair) for pair in merges] + [START, END]
    return _vocabulary({token: at for at, token in enumerate(tokens)}, merges)


def byte_letters() -> dict[int, str]:
    """Returns the printable letter that stands for each byte, in the vocabulary's order.

    Printable Latin-1 stands for itself; the others follow from U+0100 (GPT-2's table).
    """
    plain = [*range(0x21, 0x7F), *range(0xA1, 0xAD), *range(0xAE, 0x100)]
    other = [byte for byte in range(256) if byte not in plain]
    moved = {byte: chr(256 + at) for at, byte in enumerate(other)}
    return {byte: chr(byte) for byte in plain} | moved


def _pair(merge: Any) -> tuple[str, str]:
    first, second = merge.split(" ") if isinstance(merge, str) else merge
    return str(first), str(second)


def _vocabulary(ids: Mapping[str, int], merges: Sequence[tuple[str, str]]) -> Vocabulary:
    known = {str(token): int(number) for token, number in ids.items()}
    return Vocabulary(known, {pair: rank for rank, pair in enumerate(merges)})
