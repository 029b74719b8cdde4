"""Reads a Hugging Face directory: `config.json`, and its weights under the names used here.

Configurations on the hub leave out what has its default, so the defaults are part of the format;
they are those of transformers' `CLIPTextConfig` and `CLIPVisionConfig`.
"""

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from services.clip.vit.architecture import Architecture, Tower, Weights
from services.clip.vit.errors import CheckpointError
from services.clip.vit.safetensors import read_safetensors
from services.clip.vit.torch_zip import read_torch_zip

CONFIG_FILE = "config.json"
WEIGHTS_FILE, INDEX_FILE = "model.safetensors", "model.safetensors.index.json"
TORCH_FILE = "pytorch_model.bin"
_TEXT = {
    "vocab_size": 49408,
    "hidden_size": 512,
    "intermediate_size": 2048,
    "num_hidden_layers": 12,
    "num_attention_heads": 8,
    "max_position_embeddings": 77,
    "hidden_act": "quick_gelu",
    "layer_norm_eps": 1e-5,
    "eos_token_id": 49407,
}
_IMAGE = {
    "hidden_size": 768,
    "intermediate_size": 3072,
    "num_hidden_layers": 12,
    "num_attention_heads": 12,
    "image_size": 224,
    "patch_size": 32,
    "num_channels": 3,
    "hidden_act": "quick_gelu",
    "layer_norm_eps": 1e-5,
}
_OLD_END_ID = 2  # of configurations before 2023: then the end is the highest id of all


def read_json(path: Path) -> dict[str, Any]:
    """Returns the object in a JSON file. Raises `CheckpointError`."""
    try:
        document = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise CheckpointError(f"{path.name} cannot be read: {error}") from error
    if not isinstance(document, dict):
        raise CheckpointError(f"{path.name} holds no object")
    return document


def read_architecture(folder: Path) -> Architecture:
    """Reads `config.json`. Raises `CheckpointError` for what is not CLIP with ViT towers."""
    document = read_json(folder / CONFIG_FILE)
    kind = document.get("model_type")
    if kind != "clip":
        raise CheckpointError(f"{CONFIG_FILE} is of model_type {kind!r}, expected 'clip'")
    try:
        return _architecture(document)
    except (TypeError, ValueError, KeyError) as error:
        raise CheckpointError(f"{CONFIG_FILE} is unusable: {error}") from error


def _architecture(document: Mapping[str, Any]) -> Architecture:
    text = _part(document, "text_config", _TEXT)
    image = _part(document, "vision_config", _IMAGE)
    if image["num_channels"] != 3:
        raise CheckpointError(f"{image['num_channels']} colour channels, expected 3")
    side_px, patch_px = _side(image["image_size"]), _side(image["patch_size"])
    vocabulary, end_id = int(text["vocab_size"]), int(text["eos_token_id"])
    return Architecture(
        image=_tower("vision_model", image, (side_px // patch_px) ** 2 + 1),
        text=_tower("text_model", text, int(text["max_position_embeddings"])),
        side_px=side_px,
        patch_px=patch_px,
        embedding=int(document.get("projection_dim", 512)),
        vocabulary=vocabulary,
        end_id=vocabulary - 1 if end_id == _OLD_END_ID else end_id,
    )


def _part(document: Mapping[str, Any], key: str, defaults: Mapping[str, Any]) -> dict[str, Any]:
    part = {**defaults, **(document.get(key) or {})}
    older = document.get(f"{key}_dict")  # where it is given, it and the defaults win
    return part if older is None else {**part, **defaults, **older}


def _side(value: Any) -> int:
    sides = value if isinstance(value, list) else [value]
    if len(set(sides)) != 1:
        raise CheckpointError(f"{value} is no square")
    return int(sides[0])


def _tower(prefix: str, part: Mapping[str, Any], positions: int) -> Tower:
    return Tower(
        prefix=prefix,
        width=int(part["hidden_size"]),
        hidden=int(part["intermediate_size"]),
        layers=int(part["num_hidden_layers"]),
        heads=int(part["num_attention_heads"]),
        positions=positions,
        activation=str(part["hidden_act"]),
        epsilon=float(part["layer_norm_eps"]),
    )


def weight_files(folder: Path) -> tuple[Path, ...]:
    """Returns the files that hold the weights, shards in order. Raises `CheckpointError`."""
    if (folder / INDEX_FILE).is_file():
        table = read_json(folder / INDEX_FILE).get("weight_map")
        if not isinstance(table, dict):
            raise CheckpointError(f"{INDEX_FILE} has no weight_map")
        names = sorted({Path(str(name)).name for name in table.values()})
        return tuple(folder / name for name in names)
    for name in (WEIGHTS_FILE, TORCH_FILE):
        if (folder / name).is_file():
            return (folder / name,)
    raise CheckpointError(f"{folder.name} has neither {WEIGHTS_FILE} nor {TORCH_FILE}")


def read_weights(files: tuple[Path, ...]) -> Weights:
    """Returns the tensors of all shards, without the tables of positions that old files hold."""
    found: dict[str, Any] = {}
    for path in files:
        read = read_safetensors if path.suffix == ".safetensors" else read_torch_zip
        for name, tensor in read(path).items():
            if name in found:
                raise CheckpointError(f"{path.name}: tensor {name} is in another shard too")
            found[name] = tensor
    return {name: tensor for name, tensor in found.items() if not name.endswith("position_ids")}
