"""Both towers as Torch modules, exported for the engine that runs them on a GPU or in bfloat16.

Needs the extra `torch` or `gpu`. Inputs and outputs are those of `graph`. Modules and parameters go
by the names of Hugging Face, so that a checkpoint's tensors load as they are, and strictly.
"""
# mypy: disable-error-code="misc"
# Torch is an extra and unknown to mypy, which then takes nn.Module for Any.

import io
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional

from services.clip.vit.architecture import Architecture, Tower, Weights
from services.clip.vit.pictures import Pictures

MAX_ROWS = 512
_EXAMPLE_ROWS, _EXAMPLE_LENGTH = 2, 8
_TINY = 1e-12


class _Attention(nn.Module):
    def __init__(self, tower: Tower, is_causal: bool) -> None:
        super().__init__()
        self._heads, self._is_causal = tower.heads, is_causal
        for name in ("q_proj", "k_proj", "v_proj", "out_proj"):
            setattr(self, name, nn.Linear(tower.width, tower.width))

    def forward(self, x: Tensor) -> Tensor:
        split = (x.shape[0], x.shape[1], self._heads, -1)
        parts = (self.q_proj(x), self.k_proj(x), self.v_proj(x))
        q, k, v = (part.view(split).transpose(1, 2) for part in parts)
        mixed = functional.scaled_dot_product_attention(q, k, v, is_causal=self._is_causal)
        joined: Tensor = self.out_proj(mixed.transpose(1, 2).flatten(2))
        return joined


class _FeedForward(nn.Module):
    def __init__(self, tower: Tower) -> None:
        super().__init__()
        self._is_quick = tower.activation == "quick_gelu"
        self.fc1 = nn.Linear(tower.width, tower.hidden)
        self.fc2 = nn.Linear(tower.hidden, tower.width)

    def forward(self, x: Tensor) -> Tensor:
        hidden = self.fc1(x)
        active = (
            hidden * torch.sigmoid(1.702 * hidden) if self._is_quick else functional.gelu(hidden)
        )
        y: Tensor = self.fc2(active)
        return y


class _Block(nn.Module):
    def __init__(self, tower: Tower, is_causal: bool) -> None:
        super().__init__()
        self.layer_norm1 = nn.LayerNorm(tower.width, tower.epsilon)
        self.self_attn = _Attention(tower, is_causal)
        self.layer_norm2 = nn.LayerNorm(tower.width, tower.epsilon)
        self.mlp = _FeedForward(tower)

    def forward(self, x: Tensor) -> Tensor:
        x = x + self.self_attn(self.layer_norm1(x))
        y: Tensor = x + self.mlp(self.layer_norm2(x))
        return y


class _Encoder(nn.Module):
    def __init__(self, tower: Tower, is_causal: bool) -> None:
        super().__init__()
        self.layers = nn.Sequential(*(_Block(tower, is_causal) for _ in range(tower.layers)))


class _Embeddings(nn.Module):
    def __init__(self, tower: Tower) -> None:
        super().__init__()
        self.position_embedding = nn.Embedding(tower.positions, tower.width)


class _Transformer(nn.Module):
    def __init__(self, tower: Tower, is_causal: bool) -> None:
        super().__init__()
        self.embeddings = _Embeddings(tower)
        self.encoder = _Encoder(tower, is_causal)


class ImageTower(nn.Module):
    """From (N, side, side, 3) uint8 RGB to {"embedding": (N, size)} of L2 norm 1."""

    def __init__(self, architecture: Architecture, pictures: Pictures) -> None:
        super().__init__()
        tower, patch = architecture.image, architecture.patch_px
        inner = _Transformer(tower, is_causal=False)
        inner.embeddings.class_embedding = nn.Parameter(torch.zeros(tower.width))
        inner.embeddings.patch_embedding = nn.Conv2d(3, tower.width, patch, patch, bias=False)
        inner.pre_layrnorm = nn.LayerNorm(tower.width, tower.epsilon)
        inner.post_layernorm = nn.LayerNorm(tower.width, tower.epsilon)
        self.vision_model = inner
        self.visual_projection = nn.Linear(tower.width, architecture.embedding, bias=False)
        for name, values in (("mean", pictures.mean), ("deviation", pictures.deviation)):
            table = 255 * torch.tensor(values)[None, :, None, None]
            self.register_buffer(name, table, persistent=False)

    def forward(self, image: Tensor) -> dict[str, Tensor]:
        inner: Any = self.vision_model
        x = (image.permute(0, 3, 1, 2).float() - self.mean) / self.deviation
        x = inner.embeddings.patch_embedding(x).flatten(2).transpose(1, 2)
        first = inner.embeddings.class_embedding.expand(x.shape[0], 1, -1)
        x = torch.cat([first.to(x.dtype), x], dim=1) + inner.embeddings.position_embedding.weight
        x = inner.encoder.layers(inner.pre_layrnorm(x))
        return _embedded(self.visual_projection(inner.post_layernorm(x[:, 0])))


class TextTower(nn.Module):
    """From (N, T) int64 ids to {"embedding": (N, size)} of L2 norm 1."""

    def __init__(self, architecture: Architecture) -> None:
        super().__init__()
        tower = architecture.text
        self._end_id = architecture.end_id
        inner = _Transformer(tower, is_causal=True)
        inner.embeddings.token_embedding = nn.Embedding(architecture.vocabulary, tower.width)
        inner.final_layer_norm = nn.LayerNorm(tower.width, tower.epsilon)
        self.text_model = inner
        self.text_projection = nn.Linear(tower.width, architecture.embedding, bias=False)

    def forward(self, ids: Tensor) -> dict[str, Tensor]:
        inner: Any = self.text_model
        places = inner.embeddings.position_embedding.weight[: ids.shape[1]]
        x = inner.encoder.layers(inner.embeddings.token_embedding(ids) + places)
        ends = (ids == self._end_id).to(torch.int32).argmax(dim=1)
        rows = torch.arange(ids.shape[0], device=ids.device)
        return _embedded(self.text_projection(inner.final_layer_norm(x[rows, ends])))


def _embedded(points: Tensor) -> dict[str, Tensor]:
    points = points.float()
    return {"embedding": points / points.norm(dim=-1, keepdim=True).clamp_min(_TINY)}


def image_model(architecture: Architecture, weights: Weights, pictures: Pictures) -> bytes:
    """Returns the export of the image tower, the content of a `model.pt2`."""
    side = architecture.side_px
    example = torch.zeros((_EXAMPLE_ROWS, side, side, 3), dtype=torch.uint8)
    rows = torch.export.Dim("rows", max=MAX_ROWS)
    return _exported(ImageTower(architecture, pictures), weights, example, {0: rows})


def text_model(architecture: Architecture, weights: Weights) -> bytes:
    """Returns the export of the text tower, the content of a `model.pt2`."""
    example = torch.full((_EXAMPLE_ROWS, _EXAMPLE_LENGTH), architecture.end_id)
    rows = torch.export.Dim("rows", max=MAX_ROWS)
    length = torch.export.Dim("length", max=architecture.text.positions)
    return _exported(TextTower(architecture), weights, example, {0: rows, 1: length})


def _exported(
    module: nn.Module, weights: Weights, example: Tensor, shapes: dict[int, Any]
) -> bytes:
    wanted = module.state_dict()
    state = {name: torch.from_numpy(np.array(weights[name], np.float32)) for name in wanted}
    module.load_state_dict(state, strict=True)
    program = torch.export.export(module.eval(), (example,), dynamic_shapes=(shapes,))
    buffer = io.BytesIO()
    torch.export.save(program, buffer)
    return buffer.getvalue()
