"""Reads an open_clip checkpoint: a state dict, and `open_clip_config.json` beside it.

All sizes but the number of heads stand in the tensors' shapes; heads are 64 wide in every ViT
model of the library unless the configuration says otherwise. Which GELU it was trained with stands
in the configuration alone, and with the wrong one the embeddings are quietly bad, so it must be
there; `{"model_cfg": {"quick_gelu": true}}` is enough (true for OpenAI's weights).
"""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from services.clip.vit.architecture import Architecture, Tower, Weights
from services.clip.vit.errors import CheckpointError
from services.clip.vit.hugging_face import read_json
from services.clip.vit.safetensors import read_safetensors
from services.clip.vit.torch_zip import read_torch_zip

CONFIG_FILE = "open_clip_config.json"
WEIGHTS_FILES = ("open_clip_model.safetensors", "open_clip_pytorch_model.bin")
HEAD_WIDTH = 64
_EPSILON = 1e-5
_OUTER = {  # what is the same tensor under another name
    "visual.class_embedding": "vision_model.embeddings.class_embedding",
    "visual.conv1.weight": "vision_model.embeddings.patch_embedding.weight",
    "visual.positional_embedding": "vision_model.embeddings.position_embedding.weight",
    "visual.ln_pre.weight": "vision_model.pre_layrnorm.weight",
    "visual.ln_pre.bias": "vision_model.pre_layrnorm.bias",
    "visual.ln_post.weight": "vision_model.post_layernorm.weight",
    "visual.ln_post.bias": "vision_model.post_layernorm.bias",
    "token_embedding.weight": "text_model.embeddings.token_embedding.weight",
    "positional_embedding": "text_model.embeddings.position_embedding.weight",
    "ln_final.weight": "text_model.final_layer_norm.weight",
    "ln_final.bias": "text_model.final_layer_norm.bias",
    "logit_scale": "logit_scale",
}
_TURNED = {  # parameters that the library multiplies from the right
    "visual.proj": "visual_projection.weight",
    "text_projection": "text_projection.weight",
}
_TOWERS = {"visual.transformer.resblocks.": "vision_model", "transformer.resblocks.": "text_model"}
_INNER = {
    "ln_1": "layer_norm1",
    "ln_2": "layer_norm2",
    "attn.out_proj": "self_attn.out_proj",
    "mlp.c_fc": "mlp.fc1",
    "mlp.c_proj": "mlp.fc2",
}
_IGNORED = {"attn_mask", "input_resolution", "context_length", "vocab_size"}  # buffers, no weights


def read_weights(path: Path) -> Weights:
    """Returns the tensors under the names used here. Raises `CheckpointError`."""
    read = read_safetensors if path.suffix == ".safetensors" else read_torch_zip
    return renamed(read(path))


def renamed(state: Mapping[str, NDArray[Any]]) -> Weights:
    """Maps a state dict's tensors; raises `CheckpointError` for one that has no counterpart."""
    found: dict[str, NDArray[Any]] = {}
    for key, tensor in state.items():
        name = key.removeprefix("module.")  # of models that were trained on several devices
        if name in _IGNORED:
            continue
        if name in _TURNED:
            found[_TURNED[name]] = tensor.T
        elif name in _OUTER:
            found[_OUTER[name]] = tensor.reshape(()) if name == "logit_scale" else tensor
        else:
            found |= _inner(name, tensor)
    return found


def _inner(name: str, tensor: NDArray[Any]) -> dict[str, NDArray[Any]]:
    for start, tower in _TOWERS.items():
        if not name.startswith(start):
            continue
        layer, _, rest = name.removeprefix(start).partition(".")
        block = f"{tower}.encoder.layers.{layer}"
        if rest in ("attn.in_proj_weight", "attn.in_proj_bias"):
            part = rest.removeprefix("attn.in_proj_")
            thirds = np.split(tensor, 3)
            letters = zip("qkv", thirds, strict=True)
            return {f"{block}.self_attn.{letter}_proj.{part}": third for letter, third in letters}
        inner, _, part = rest.rpartition(".")
        if inner in _INNER:
            return {f"{block}.{_INNER[inner]}.{part}": tensor}
    raise CheckpointError(f"tensor {name} belongs to no CLIP with ViT towers")


def read_config(folder: Path) -> Mapping[str, Any]:
    """Returns `open_clip_config.json` beside the weights. Raises `CheckpointError`."""
    path = folder / CONFIG_FILE
    if not path.is_file():
        raise CheckpointError(
            f"{CONFIG_FILE} is missing beside the weights; it must say at least "
            '{"model_cfg": {"quick_gelu": true or false}}'
        )
    config = read_json(path)
    if not isinstance(config.get("model_cfg"), dict):
        raise CheckpointError(f"{CONFIG_FILE} has no model_cfg")
    return config


def architecture(config: Mapping[str, Any], weights: Weights) -> Architecture:
    """Returns the sizes as the tensors have them. Raises `CheckpointError`."""
    model = config["model_cfg"]
    image, text = model.get("vision_cfg") or {}, model.get("text_cfg") or {}
    _refuse_variants(image, text)
    activation = "quick_gelu" if model.get("quick_gelu", False) else "gelu"
    try:
        patches = weights["vision_model.embeddings.patch_embedding.weight"]
        places = weights["vision_model.embeddings.position_embedding.weight"]
        tokens = weights["text_model.embeddings.token_embedding.weight"]
        words = weights["text_model.embeddings.position_embedding.weight"]
        grid = round(float(np.sqrt(len(places) - 1)))
        return Architecture(
            image=_tower("vision_model", weights, places, activation, image),
            text=_tower("text_model", weights, words, activation, text),
            side_px=grid * patches.shape[-1],
            patch_px=patches.shape[-1],
            embedding=len(weights["visual_projection.weight"]),
            vocabulary=len(tokens),
            end_id=len(tokens) - 1,
        )
    except (KeyError, IndexError, TypeError, ValueError) as error:
        raise CheckpointError(f"no CLIP with ViT towers: {error}") from error


def _refuse_variants(image: Mapping[str, Any], text: Mapping[str, Any]) -> None:
    """Refuses options that change the computation and not one tensor's shape."""
    expected: Mapping[str, tuple[Any, ...]] = {
        "pool_type": ("tok", "argmax"),
        "no_ln_pre": (False,),
        "attentional_pool": (False,),
        "timm_model_name": (None,),
        "hf_model_name": (None,),
        "no_causal_mask": (False,),
        "embed_cls": (False,),
        "norm_kwargs": (None, {}),
        "act_kwargs": (None, {}),
    }
    for part in (image, text):
        for key, values in expected.items():
            if key in part and part[key] not in values:
                raise CheckpointError(f"{CONFIG_FILE}: {key} {part[key]!r} is not served here")


def _tower(
    prefix: str,
    weights: Weights,
    positions: NDArray[Any],
    activation: str,
    config: Mapping[str, Any],
) -> Tower:
    width = positions.shape[1]
    start = f"{prefix}.encoder.layers."
    layers = {name.removeprefix(start).split(".")[0] for name in weights if name.startswith(start)}
    heads = config.get("heads") or width // int(config.get("head_width", HEAD_WIDTH))
    return Tower(
        prefix=prefix,
        width=width,
        hidden=len(weights[f"{start}0.mlp.fc1.bias"]),
        layers=len(layers),
        heads=int(heads),
        positions=len(positions),
        activation=activation,
        epsilon=_EPSILON,
    )
