"""Quality by CLIP: pairs of opposite sentences, and a linear aesthetic head if there is one.

The pairs are those of CLIP-IQA (Wang, Chan, Loy: "Exploring CLIP for Assessing the Look and Feel of
Images", AAAI 2023): a picture's score is the share that the good sentence has of the two. The
head is LAION's: one linear layer on the embedding, trained on ratings from 1 to 10.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Self

import numpy as np
from numpy.typing import NDArray

from services.clip.quality import Quality
from services.clip.vit.errors import CheckpointError
from services.clip.vit.prompts import Read, probabilities
from services.clip.vit.safetensors import read_safetensors
from services.clip.vit.torch_zip import read_torch_zip

SCORE = ("Good photo.", "Bad photo.")
ASPECTS: Mapping[str, tuple[str, str]] = {
    "beauty": ("Beautiful photo.", "Ugly photo."),
    "brightness": ("Bright photo.", "Dark photo."),
    "colourfulness": ("Colorful photo.", "Dull photo."),
}
MAX_AESTHETIC = 10.0


@dataclass(frozen=True, slots=True)
class AestheticHead:
    """A linear layer on embeddings of L2 norm 1."""

    weight: NDArray[np.float32]  # (size,)
    bias: float

    @classmethod
    def load(cls, path: Path, size: int) -> Self:
        """Reads `weight` and `bias` of a state dict. Raises `CheckpointError`."""
        if not path.is_file():
            raise CheckpointError(f"{path} is missing")
        read = read_safetensors if path.suffix == ".safetensors" else read_torch_zip
        tensors = read(path)
        shapes = {name: tensor.shape for name, tensor in tensors.items()}
        if shapes != {"weight": (1, size), "bias": (1,)}:
            raise CheckpointError(
                f"{path.name} holds {shapes}, expected weight (1, {size}) and bias (1,)"
            )
        return cls(np.asarray(tensors["weight"][0], np.float32), float(tensors["bias"][0]))

    def score(self, embedding: NDArray[np.float32]) -> float:
        """Returns 0 (plain) to 10 (beautiful)."""
        return min(max(float(self.weight @ embedding) + self.bias, 0.0), MAX_AESTHETIC)


@dataclass(frozen=True, slots=True)
class Critic:
    """The pairs as points, ready to judge."""

    pairs: Mapping[str, NDArray[np.float32]]  # (2, size) by aspect; "" is the score itself
    scale: float
    head: AestheticHead | None

    @classmethod
    async def load(cls, read: Read, scale: float, head: AestheticHead | None) -> Self:
        """Reads the sentences."""
        pairs = {"": SCORE, **ASPECTS}
        return cls({name: await read(pair) for name, pair in pairs.items()}, scale, head)

    def judge(self, measured: Quality, embedding: NDArray[Any]) -> Quality:
        """Returns CLIP's score, and its aspects beside those that were measured in the pixels."""
        shares = {
            name: 10 * float(probabilities(embedding, points, self.scale)[0])
            for name, points in self.pairs.items()
        }
        score = shares.pop("")
        if self.head is not None:
            shares["aesthetic"] = self.head.score(embedding)
        return Quality(score, {**measured.aspects, **shares})
