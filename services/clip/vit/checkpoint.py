"""The operator's weights, whichever of the two formats they are in.

    a Hugging Face directory       config.json, model.safetensors (or shards), vocabulary,
                                   preprocessor_config.json
    an open_clip file or directory a state dict (.safetensors, .pt, .bin), open_clip_config.json

Opening hashes every file and reads the small ones; the weights are read when they are asked for.
"""

import hashlib
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from services.clip.vit import hugging_face, open_clip, pictures
from services.clip.vit.architecture import Architecture, Weights
from services.clip.vit.errors import CheckpointError
from services.clip.vit.pictures import Pictures
from services.clip.vit.tokenizer import Tokenizer
from services.clip.vit.vocabulary import Vocabulary, read_vocabulary, vocabulary_files

VERSION_DIGITS = 12


@dataclass(frozen=True, slots=True)
class Checkpoint:
    """A described checkpoint, whose weights have not been read yet."""

    architecture: Architecture
    pictures: Pictures
    digests: Mapping[str, str]  # SHA-256 by file name
    vocabulary: Vocabulary | None  # None: no file beside the weights holds it
    weights: Callable[[], Weights]  # all tensors, checked; raises `CheckpointError`

    @property
    def digest(self) -> str:
        """SHA-256 over the names and digests of all files: what makes an embedding space."""
        lines = "".join(f"{digest}  {name}\n" for name, digest in sorted(self.digests.items()))
        return hashlib.sha256(lines.encode()).hexdigest()

    @property
    def version(self) -> str:
        return self.digest[:VERSION_DIGITS]

    def tokenizer(self, fallback: Callable[[], Vocabulary] | None = None) -> Tokenizer:
        """Returns the tokenizer; `fallback` gives the vocabulary that the files lack."""
        vocabulary = self.vocabulary or (fallback() if fallback else None)
        if vocabulary is None:
            raise CheckpointError(
                "no vocabulary beside the weights: tokenizer.json, vocab.json with merges.txt, "
                "or bpe_simple_vocab_16e6.txt.gz"
            )
        largest = max(vocabulary.ids.values())
        if largest >= self.architecture.vocabulary or (
            vocabulary.end_id != self.architecture.end_id
        ):
            raise CheckpointError(
                f"the vocabulary reaches {largest} and ends with {vocabulary.end_id}; the weights "
                f"have {self.architecture.vocabulary} tokens and end with "
                f"{self.architecture.end_id}"
            )
        return Tokenizer(vocabulary, self.architecture.text.positions)


def open_checkpoint(path: Path) -> Checkpoint:
    """Describes the weights at `path`. Raises `CheckpointError`."""
    if (path / hugging_face.CONFIG_FILE).is_file():
        return _hugging_face(path)
    if path.is_file():
        return _open_clip(path)
    for name in open_clip.WEIGHTS_FILES:
        if (path / name).is_file():
            return _open_clip(path / name)
    raise CheckpointError(
        f"{path} is neither a directory with {hugging_face.CONFIG_FILE} nor an open_clip checkpoint"
    )


def _hugging_face(folder: Path) -> Checkpoint:
    architecture = hugging_face.read_architecture(folder)
    files, words = hugging_face.weight_files(folder), vocabulary_files(folder)
    small = [folder / hugging_face.CONFIG_FILE]
    small += [folder / name for name in pictures.FILES if (folder / name).is_file()]
    return Checkpoint(
        architecture,
        pictures.from_hugging_face(folder, architecture.side_px),
        _digests([*files, *small, *words]),
        read_vocabulary(words) if words else None,
        lambda: _checked(architecture, hugging_face.read_weights(files)),
    )


def _open_clip(path: Path) -> Checkpoint:
    folder = path.parent
    config, words = open_clip.read_config(folder), vocabulary_files(folder)
    architecture = open_clip.architecture(config, open_clip.read_weights(path))
    return Checkpoint(
        architecture,
        pictures.from_open_clip(config, architecture.side_px),
        _digests([path, folder / open_clip.CONFIG_FILE, *words]),
        read_vocabulary(words) if words else None,
        lambda: _checked(architecture, open_clip.read_weights(path)),
    )


def _checked(architecture: Architecture, weights: Weights) -> Weights:
    architecture.check(weights)
    return weights


def _digests(paths: Sequence[Path]) -> Mapping[str, str]:
    digests = {}
    for path in paths:
        try:
            with path.open("rb") as file:
                digests[path.name] = hashlib.file_digest(file, "sha256").hexdigest()
        except OSError as error:
            raise CheckpointError(f"{path.name} cannot be read: {error.strerror}") from error
    return digests
