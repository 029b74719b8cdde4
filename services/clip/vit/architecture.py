"""What shape of CLIP a checkpoint holds, and which tensors that shape must have.

Both towers are pre-norm Transformers. Tensors go by the names that Hugging Face gives them, in
Torch's layout: a linear layer's weight is (outputs, inputs).
"""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from services.clip.vit.errors import CheckpointError

Weights = Mapping[str, NDArray[Any]]
ACTIVATIONS = (
    "quick_gelu",
    "gelu",
)  # x·σ(1.702x) of OpenAI's weights; the exact one of most others
_LETTERS = {192: "ti", 384: "s", 768: "b", 1024: "l"}  # of the image tower's width
MAX_WIDTH = 1024  # the next larger ViT would pass the 2 GiB of one ONNX file


@dataclass(frozen=True, slots=True)
class Tower:
    """One Transformer."""

    prefix: str  # "vision_model" or "text_model"
    width: int
    hidden: int  # of its feed-forward layers
    layers: int
    heads: int
    positions: int  # rows of its position table
    activation: str  # one of ACTIVATIONS
    epsilon: float  # of its layer norms

    def __post_init__(self) -> None:
        sizes = (self.width, self.hidden, self.layers, self.heads, self.positions)
        if min(sizes) < 1 or self.width % self.heads:
            raise CheckpointError(
                f"{self.prefix} has width {self.width}, {self.layers} layers, {self.heads} heads"
            )
        if self.width > MAX_WIDTH:
            raise CheckpointError(f"{self.prefix} has width {self.width}, at most {MAX_WIDTH}")
        if self.activation not in ACTIVATIONS:
            known = " or ".join(ACTIVATIONS)
            raise CheckpointError(f"{self.prefix} has {self.activation!r}, expected {known}")

    def blocks(self) -> Iterator[str]:
        """Yields the prefix of each block's tensors, in order."""
        return (f"{self.prefix}.encoder.layers.{at}" for at in range(self.layers))

    def shapes(self) -> Iterator[tuple[str, tuple[int, ...]]]:
        """Yields names and shapes of the tensors that all towers have."""
        wide = (self.width,)
        for block in self.blocks():
            for norm in ("layer_norm1", "layer_norm2"):
                yield from ((f"{block}.{norm}.{part}", wide) for part in ("weight", "bias"))
            for linear in ("q_proj", "k_proj", "v_proj", "out_proj"):
                yield f"{block}.self_attn.{linear}.weight", (self.width, self.width)
                yield f"{block}.self_attn.{linear}.bias", wide
            yield f"{block}.mlp.fc1.weight", (self.hidden, self.width)
            yield f"{block}.mlp.fc1.bias", (self.hidden,)
            yield f"{block}.mlp.fc2.weight", (self.width, self.hidden)
            yield f"{block}.mlp.fc2.bias", wide
        yield f"{self.prefix}.embeddings.position_embedding.weight", (self.positions, self.width)


@dataclass(frozen=True, slots=True)
class Architecture:
    """Both towers and the space that they share."""

    image: Tower
    text: Tower
    side_px: int  # of the square pictures
    patch_px: int
    embedding: int  # size of an embedding
    vocabulary: int  # rows of the token table
    end_id: int  # the token whose place holds the text's meaning

    def __post_init__(self) -> None:
        if self.side_px % self.patch_px or (self.side_px // self.patch_px) ** 2 + 1 != (
            self.image.positions
        ):
            raise CheckpointError(
                f"{self.side_px} px in patches of {self.patch_px} px do not make "
                f"{self.image.positions} positions"
            )
        if not 0 <= self.end_id < self.vocabulary:
            raise CheckpointError(f"end token {self.end_id} is none of {self.vocabulary}")

    @property
    def name(self) -> str:
        """`clip-vit-b-32` and so on; a width that has no letter is spelled out."""
        width = self.image.width
        letter = _LETTERS.get(width, f"{width}x{self.image.layers}")
        side = "" if self.side_px == 224 else f"-{self.side_px}"
        return f"clip-vit-{letter}-{self.patch_px}{side}"

    def shapes(self) -> dict[str, tuple[int, ...]]:
        """Returns names and shapes of all tensors."""
        image, text = self.image.width, self.text.width
        patches = (image, 3, self.patch_px, self.patch_px)
        shapes = {
            **dict(self.image.shapes()),
            **dict(self.text.shapes()),
            "vision_model.embeddings.class_embedding": (image,),
            "vision_model.embeddings.patch_embedding.weight": patches,
            "text_model.embeddings.token_embedding.weight": (self.vocabulary, text),
            "visual_projection.weight": (self.embedding, image),
            "text_projection.weight": (self.embedding, text),
            "logit_scale": (),
        }
        for norm in ("pre_layrnorm", "post_layernorm"):  # the first is spelled so in every file
            shapes |= {f"vision_model.{norm}.{part}": (image,) for part in ("weight", "bias")}
        return shapes | {
            f"text_model.final_layer_norm.{part}": (text,) for part in ("weight", "bias")
        }

    def check(self, weights: Weights) -> None:
        """Raises `CheckpointError` for a tensor too few, too many, misshapen or not finite."""
        shapes = self.shapes()
        if missing := sorted(set(shapes) - set(weights)):
            raise CheckpointError(f"tensor {missing[0]} is missing, and {len(missing) - 1} more")
        if unknown := sorted(set(weights) - set(shapes)):
            raise CheckpointError(f"tensor {unknown[0]} is none of {self.name}'s")
        for name, shape in shapes.items():
            found = weights[name]
            if found.shape != shape or found.dtype.kind != "f":
                raise CheckpointError(
                    f"tensor {name} is {found.dtype} {list(found.shape)}, expected {list(shape)}"
                )
            if not np.isfinite(found).all():
                raise CheckpointError(f"tensor {name} holds values that are not finite")
