"""CLIP checkpoints of true size with random weights, written with NumPy alone.

They cost what trained ones cost, and their embeddings of unlike photographs lie apart. What they
say of a picture means nothing.
"""

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from services.clip.vit.hugging_face import CONFIG_FILE, WEIGHTS_FILE, read_architecture

B32, L14 = "clip-vit-b-32", "clip-vit-l-14"
_CONFIGS: Mapping[str, Mapping[str, Any]] = {
    B32: {},  # the defaults of the format
    L14: {
        "projection_dim": 768,
        "vision_config": {
            "patch_size": 14, "hidden_size": 1024, "intermediate_size": 4096,
            "num_hidden_layers": 24, "num_attention_heads": 16,
        },
        "text_config": {
            "hidden_size": 768, "intermediate_size": 3072, "num_attention_heads": 12,
        },
    },
}  # fmt: skip


def write_random_weights(folder: Path, name: str, layers: int | None = None) -> Path:
    """Writes a Hugging Face directory of that architecture, without a vocabulary; returns it.

    `layers` makes a shallower one, for a rehearsal.
    """
    folder.mkdir(parents=True, exist_ok=True)
    config = json.loads(json.dumps({"model_type": "clip", **_CONFIGS[name]}))
    for part in ("vision_config", "text_config"):
        config.setdefault(part, {})
        if layers is not None:
            config[part]["num_hidden_layers"] = layers
    (folder / CONFIG_FILE).write_text(json.dumps(config), encoding="utf-8")
    shapes = read_architecture(folder).shapes()
    header, at = {}, 0
    for tensor, shape in shapes.items():
        end = at + 4 * int(np.prod(shape, dtype=np.int64))
        header[tensor] = {"dtype": "F32", "shape": list(shape), "data_offsets": [at, end]}
        at = end
    text = json.dumps(header).encode()
    source = np.random.default_rng(0)
    with (folder / WEIGHTS_FILE).open("wb") as file:
        file.write(len(text).to_bytes(8, "little") + text)
        for tensor, shape in shapes.items():
            file.write(_drawn(source, tensor, shape).tobytes())
    return folder


def _drawn(source: np.random.Generator, name: str, shape: tuple[int, ...]) -> NDArray[np.float32]:
    """Draws so that no layer fades or outshouts the others."""
    if name == "logit_scale":
        return np.full(shape, np.log(100), np.float32)
    centre = 1.0 if "norm" in name and name.endswith("weight") else 0.0
    wide = len(shape) > 1 and not name.endswith(
        ("position_embedding.weight", "token_embedding.weight")
    )
    deviation = float(np.prod(shape[1:])) ** -0.5 if wide else 0.1
    values = source.standard_normal(shape, np.float32)
    return values * np.float32(deviation) + np.float32(centre)
