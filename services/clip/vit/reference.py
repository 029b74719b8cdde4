"""CLIP in float64 NumPy, word for word as it was published: what a built model is measured by.

Nothing is folded, pooled early or cut short here, so each of the graph's liberties is checked.
"""

import math

import numpy as np
from numpy.typing import NDArray

from services.clip.vit.architecture import Architecture, Tower, Weights
from services.clip.vit.pictures import Pictures

Numbers = NDArray[np.float64]


def embed_images(
    architecture: Architecture, weights: Weights, pictures: Pictures, images: NDArray[np.uint8]
) -> Numbers:
    """Returns (N, size) embeddings of L2 norm 1 for (N, side, side, 3) RGB."""
    name = "vision_model.embeddings"
    pixels = (images / 255 - np.array(pictures.mean)) / np.array(pictures.deviation)
    patch, grid = architecture.patch_px, architecture.side_px // architecture.patch_px
    patches = pixels.reshape(-1, grid, patch, grid, patch, 3).transpose(0, 1, 3, 5, 2, 4)
    kernels = _f64(weights, f"{name}.patch_embedding.weight")
    x = patches.reshape(len(images), grid * grid, -1) @ kernels.reshape(len(kernels), -1).T
    first = np.broadcast_to(_f64(weights, f"{name}.class_embedding"), (len(x), 1, x.shape[2]))
    x = np.concatenate([first, x], axis=1) + _f64(weights, f"{name}.position_embedding.weight")
    tower = architecture.image
    x = _norm(weights, x, "vision_model.pre_layrnorm", tower.epsilon)
    x = _encoded(weights, tower, x, None)
    x = _norm(weights, x[:, 0], "vision_model.post_layernorm", tower.epsilon)
    return _unit(x @ _f64(weights, "visual_projection.weight").T)


def embed_texts(architecture: Architecture, weights: Weights, ids: NDArray[np.int64]) -> Numbers:
    """Returns (N, size) embeddings of L2 norm 1 for (N, T) token ids."""
    name, tower = "text_model.embeddings", architecture.text
    places = _f64(weights, f"{name}.position_embedding.weight")[: ids.shape[1]]
    x = _f64(weights, f"{name}.token_embedding.weight")[ids] + places
    mask = np.triu(np.full((ids.shape[1], ids.shape[1]), -np.inf), 1)
    x = _encoded(weights, tower, x, mask)
    x = _norm(weights, x, "text_model.final_layer_norm", tower.epsilon)
    ends = (ids == architecture.end_id).argmax(axis=1)
    return _unit(x[np.arange(len(ids)), ends] @ _f64(weights, "text_projection.weight").T)


def _encoded(weights: Weights, tower: Tower, x: Numbers, mask: Numbers | None) -> Numbers:
    for block in tower.blocks():
        normed = _norm(weights, x, f"{block}.layer_norm1", tower.epsilon)
        x = x + _attention(weights, tower, f"{block}.self_attn", normed, mask)
        hidden = _norm(weights, x, f"{block}.layer_norm2", tower.epsilon)
        hidden = _activated(_linear(weights, hidden, f"{block}.mlp.fc1"), tower.activation)
        x = x + _linear(weights, hidden, f"{block}.mlp.fc2")
    return x


def _attention(
    weights: Weights, tower: Tower, name: str, x: Numbers, mask: Numbers | None
) -> Numbers:
    rows, places, width = x.shape
    split = (rows, places, tower.heads, width // tower.heads)
    queries, keys, values = (
        _linear(weights, x, f"{name}.{letter}_proj").reshape(split).transpose(0, 2, 1, 3)
        for letter in "qkv"
    )
    scores = queries @ keys.transpose(0, 1, 3, 2) / math.sqrt(split[3])
    if mask is not None:
        scores = scores + mask
    scores = np.exp(scores - scores.max(axis=-1, keepdims=True))
    mixed = (scores / scores.sum(axis=-1, keepdims=True)) @ values
    return _linear(weights, mixed.transpose(0, 2, 1, 3).reshape(x.shape), f"{name}.out_proj")


def _activated(x: Numbers, activation: str) -> Numbers:
    if activation == "quick_gelu":
        return np.asarray(x / (1 + np.exp(-1.702 * x)))
    erf = np.vectorize(math.erf, otypes=[np.float64])
    return np.asarray(x * (1 + erf(x / math.sqrt(2))) / 2)


def _linear(weights: Weights, x: Numbers, name: str) -> Numbers:
    return x @ _f64(weights, f"{name}.weight").T + _f64(weights, f"{name}.bias")


def _norm(weights: Weights, x: Numbers, name: str, epsilon: float) -> Numbers:
    centred = x - x.mean(axis=-1, keepdims=True)
    scale = np.sqrt((centred**2).mean(axis=-1, keepdims=True) + epsilon)
    weight, bias = _f64(weights, f"{name}.weight"), _f64(weights, f"{name}.bias")
    return np.asarray(centred / scale * weight + bias)


def _unit(points: Numbers) -> Numbers:
    return np.asarray(points / np.linalg.norm(points, axis=-1, keepdims=True))


def _f64(weights: Weights, name: str) -> Numbers:
    return np.asarray(weights[name], np.float64)
