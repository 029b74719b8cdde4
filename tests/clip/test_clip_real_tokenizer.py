import time
from itertools import pairwise

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from services.clip.vit.errors import CheckpointError
from services.clip.vit.tokenizer import Tokenizer, merge
from services.clip.vit.vocabulary import (
    Vocabulary,
    from_merges,
    read_vocabulary,
    vocabulary_files,
)
from serving.models.artifacts import DEFAULT_REPOSITORY, open_artifact
from tests.clip import tiny_clip

START_ID, END_ID = 49406, 49407
# As transformers' CLIPTokenizer and OpenAI's have them.
KNOWN = {
    "": [],
    "a photo of a cat": [320, 1125, 539, 320, 2368],
    "  A PHOTO\tof\n a cat ": [320, 1125, 539, 320, 2368],
    "don't!!": [847, 713, 748],
    "2024": [273, 271, 273, 275],
    "a <|endoftext|> b": [320, 49407, 321],
}


@pytest.fixture(scope="module")
def tokenizer() -> Tokenizer:
    artifact = open_artifact(DEFAULT_REPOSITORY, "clip-vocabulary")
    return Tokenizer(from_merges(artifact.path.read_bytes()), 77)


@pytest.mark.parametrize("text", KNOWN)
def test_known_texts_have_known_ids(text: str, tokenizer: Tokenizer) -> None:
    assert tokenizer.encode(text) == [START_ID, *KNOWN[text], END_ID]


@pytest.mark.parametrize("text", ["a", "é", "ab 1 ", "<|startoftext|>"])
def test_text_of_any_length_ends_in_time_at_the_context(text: str, tokenizer: Tokenizer) -> None:
    started = time.process_time()
    ids = tokenizer.encode(text * (50_000 // len(text)))
    assert time.process_time() - started < 10  # repeated scans of one word would take minutes
    assert (len(ids), ids[0], ids[-1]) == (77, START_ID, END_ID)


def test_batch_is_filled_with_end_tokens_to_a_multiple(tokenizer: Tokenizer) -> None:
    rows = tokenizer.batch(["a photo of a cat", "a"], multiple=8)
    assert rows.tolist() == [
        [START_ID, *KNOWN["a photo of a cat"], END_ID, END_ID],
        [START_ID, 320, *([END_ID] * 6)],
    ]
    assert tokenizer.batch(["word " * 100], multiple=8).shape == (1, 77)


@given(st.lists(st.sampled_from("abcd"), min_size=1, max_size=12).map("".join))
def test_queue_merges_as_repeated_scans_do(word: str) -> None:
    pairs = [("a", "b"), ("c", "d"), ("ab", "cd"), ("b", "c"), ("a", "a"), ("aa", "aa"), ("d", "a")]
    ids = dict.fromkeys(("<|startoftext|>", "<|endoftext|>"), 0)
    vocabulary = Vocabulary(ids, {pair: rank for rank, pair in enumerate(pairs)})

    symbols = list(word)
    while known := [p for p in pairwise(symbols) if p in pairs]:
        best = min(known, key=pairs.index)
        at = next(i for i, p in enumerate(pairwise(symbols)) if p == best)
        symbols[at : at + 2] = ["".join(best)]

    assert merge(list(word), vocabulary) == symbols


def test_vocabulary_files_say_the_same(tmp_path_factory: pytest.TempPathFactory) -> None:
    pair = tmp_path_factory.mktemp("pair")
    tiny_clip.write_vocabulary(pair)
    single = tmp_path_factory.mktemp("single")
    tiny_clip.write_tokenizer(single)
    first, second = (read_vocabulary(vocabulary_files(folder)) for folder in (pair, single))
    assert first == second
    assert Tokenizer(first, 24).encode("a photo of a cat") == [
        520,
        320,
        519,
        78,
        325,
        320,
        513,
        521,
    ]


def test_damaged_vocabulary_is_refused(tmp_path_factory: pytest.TempPathFactory) -> None:
    folder = tmp_path_factory.mktemp("damaged")
    tiny_clip.write_vocabulary(folder)
    (folder / "merges.txt").write_text("#version: 0.2\nonlyone\n")
    with pytest.raises(CheckpointError, match="is no vocabulary"):
        read_vocabulary(vocabulary_files(folder))
    (folder / "bpe_simple_vocab_16e6.txt.gz").write_bytes(b"\x1f\x8b broken")
    (folder / "merges.txt").unlink()
    with pytest.raises(CheckpointError, match="is no vocabulary"):
        read_vocabulary(vocabulary_files(folder))


def test_ids_do_not_depend_on_what_was_encoded_before(tokenizer: Tokenizer) -> None:
    fresh = [tokenizer.encode(text) for text in KNOWN]
    assert [tokenizer.encode(text) for text in KNOWN] == fresh
    assert np.unique([ids[0] for ids in fresh]).tolist() == [START_ID]
