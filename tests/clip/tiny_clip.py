"""A CLIP of a few thousand random weights, written as its formats are written: no library."""

import json
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from services.clip.vit.vocabulary import END, START, byte_letters

State = dict[str, NDArray[Any]]
LETTERS = list(byte_letters().values())
MERGES = ("c a", "ca t</w>", "d o", "do g</w>", "p h", "ph o", "t o</w>", "pho to</w>")
TOKENS = [
    *LETTERS,
    *(f"{letter}</w>" for letter in LETTERS),
    *(merge.replace(" ", "") for merge in MERGES),
    START,
    END,
]
SIDE_PX, PATCH_PX, CONTEXT, EMBEDDING = 64, 16, 24, 24
IMAGE = {"hidden_size": 32, "intermediate_size": 64, "num_hidden_layers": 2}
TEXT = {"hidden_size": 16, "intermediate_size": 48, "num_hidden_layers": 3}
CONFIG: dict[str, Any] = {
    "model_type": "clip",
    "projection_dim": EMBEDDING,
    "vision_config": {
        **IMAGE, "num_attention_heads": 4, "image_size": SIDE_PX, "patch_size": PATCH_PX
    },
    "text_config": {
        **TEXT, "num_attention_heads": 2, "vocab_size": len(TOKENS),
        "max_position_embeddings": CONTEXT, "eos_token_id": len(TOKENS) - 1,
    },
}  # fmt: skip
PREPROCESSOR = {
    "size": {"shortest_edge": SIDE_PX},
    "crop_size": {"height": SIDE_PX, "width": SIDE_PX},
    "resample": 3,
    "image_mean": [0.5, 0.4, 0.3],
    "image_std": [0.2, 0.25, 0.3],
}


def hugging_face_state(seed: int = 0) -> State:
    """Random weights under Hugging Face's names: norms about 1, all else about 0."""
    source = np.random.default_rng(seed)
    state: State = {"logit_scale": np.array(3.0, np.float32)}
    for name, shape in _shapes():
        centre = 1.0 if "norm" in name and name.endswith("weight") else 0.0
        state[name] = source.normal(centre, 0.3, shape).astype(np.float32)
    return state


def _shapes() -> Iterable[tuple[str, tuple[int, ...]]]:
    places = (SIDE_PX // PATCH_PX) ** 2 + 1
    for tower, part, rows in (("vision_model", IMAGE, places), ("text_model", TEXT, CONTEXT)):
        width, hidden = part["hidden_size"], part["intermediate_size"]
        for layer in range(part["num_hidden_layers"]):
            block = f"{tower}.encoder.layers.{layer}"
            for name in ("q_proj", "k_proj", "v_proj", "out_proj"):
                yield f"{block}.self_attn.{name}.weight", (width, width)
                yield f"{block}.self_attn.{name}.bias", (width,)
            yield f"{block}.mlp.fc1.weight", (hidden, width)
            yield f"{block}.mlp.fc1.bias", (hidden,)
            yield f"{block}.mlp.fc2.weight", (width, hidden)
            yield f"{block}.mlp.fc2.bias", (width,)
            for norm in ("layer_norm1", "layer_norm2"):
                yield f"{block}.{norm}.weight", (width,)
                yield f"{block}.{norm}.bias", (width,)
        yield f"{tower}.embeddings.position_embedding.weight", (rows, width)
    width = IMAGE["hidden_size"]
    yield "vision_model.embeddings.class_embedding", (width,)
    yield "vision_model.embeddings.patch_embedding.weight", (width, 3, PATCH_PX, PATCH_PX)
    for norm, size in (
        ("vision_model.pre_layrnorm", width),
        ("vision_model.post_layernorm", width),
        ("text_model.final_layer_norm", TEXT["hidden_size"]),
    ):
        yield f"{norm}.weight", (size,)
        yield f"{norm}.bias", (size,)
    yield "text_model.embeddings.token_embedding.weight", (len(TOKENS), TEXT["hidden_size"])
    yield "visual_projection.weight", (EMBEDDING, width)
    yield "text_projection.weight", (EMBEDDING, TEXT["hidden_size"])


def open_clip_state(state: Mapping[str, NDArray[Any]]) -> State:
    """The same weights as open_clip names and lays them out."""
    renamed: State = {
        "visual.class_embedding": state["vision_model.embeddings.class_embedding"],
        "visual.conv1.weight": state["vision_model.embeddings.patch_embedding.weight"],
        "visual.positional_embedding": state["vision_model.embeddings.position_embedding.weight"],
        "visual.proj": state["visual_projection.weight"].T,
        "token_embedding.weight": state["text_model.embeddings.token_embedding.weight"],
        "positional_embedding": state["text_model.embeddings.position_embedding.weight"],
        "text_projection": state["text_projection.weight"].T,
        "logit_scale": state["logit_scale"],
    }
    for part in ("weight", "bias"):
        renamed[f"visual.ln_pre.{part}"] = state[f"vision_model.pre_layrnorm.{part}"]
        renamed[f"visual.ln_post.{part}"] = state[f"vision_model.post_layernorm.{part}"]
        renamed[f"ln_final.{part}"] = state[f"text_model.final_layer_norm.{part}"]
    for tower, start in (("vision_model", "visual.transformer"), ("text_model", "transformer")):
        layers = sum(name.startswith(f"{tower}.") and name.endswith("fc1.bias") for name in state)
        for layer in range(layers):
            old, new = f"{tower}.encoder.layers.{layer}", f"{start}.resblocks.{layer}"
            for part in ("weight", "bias"):
                thirds = [state[f"{old}.self_attn.{letter}_proj.{part}"] for letter in "qkv"]
                renamed[f"{new}.attn.in_proj_{part}"] = np.concatenate(thirds)
                renamed[f"{new}.attn.out_proj.{part}"] = state[f"{old}.self_attn.out_proj.{part}"]
                for mine, theirs in (
                    ("layer_norm1", "ln_1"), ("layer_norm2", "ln_2"),
                    ("mlp.fc1", "mlp.c_fc"), ("mlp.fc2", "mlp.c_proj"),
                ):  # fmt: skip
                    renamed[f"{new}.{theirs}.{part}"] = state[f"{old}.{mine}.{part}"]
    return renamed


def safetensors(state: Mapping[str, NDArray[Any]]) -> bytes:
    """Tensors in the safetensors format."""
    header, body = {}, b""
    for name, tensor in state.items():
        raw = np.ascontiguousarray(tensor).tobytes()
        kind = {"float32": "F32", "float16": "F16", "uint16": "BF16"}[tensor.dtype.name]
        header[name] = {
            "dtype": kind, "shape": list(tensor.shape),
            "data_offsets": [len(body), len(body) + len(raw)],
        }  # fmt: skip
        body += raw
    text = json.dumps(header).encode()
    return len(text).to_bytes(8, "little") + text + body


def write_vocabulary(folder: Path) -> None:
    ids = {token: at for at, token in enumerate(TOKENS)}
    (folder / "vocab.json").write_text(json.dumps(ids), encoding="utf-8")
    merges = "\n".join(("#version: 0.2", *MERGES, ""))
    (folder / "merges.txt").write_text(merges, encoding="utf-8")


def write_hugging_face(folder: Path, state: Mapping[str, NDArray[Any]] | None = None) -> Path:
    """Writes a whole directory as `save_pretrained` does, and returns it."""
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "config.json").write_text(json.dumps(CONFIG), encoding="utf-8")
    processor = json.dumps(PREPROCESSOR)
    (folder / "preprocessor_config.json").write_text(processor, encoding="utf-8")
    (folder / "model.safetensors").write_bytes(safetensors(state or hugging_face_state()))
    write_vocabulary(folder)
    return folder


def write_open_clip(folder: Path, state: Mapping[str, NDArray[Any]] | None = None) -> Path:
    """Writes the same model as an open_clip checkpoint, and returns its file."""
    folder.mkdir(parents=True, exist_ok=True)
    config = {
        "model_cfg": {
            "embed_dim": EMBEDDING, "quick_gelu": True,
            "vision_cfg": {"head_width": 8}, "text_cfg": {"heads": 2},
        },
        "preprocess_cfg": {"mean": PREPROCESSOR["image_mean"], "std": PREPROCESSOR["image_std"]},
    }  # fmt: skip
    (folder / "open_clip_config.json").write_text(json.dumps(config), encoding="utf-8")
    path = folder / "open_clip_model.safetensors"
    path.write_bytes(safetensors(open_clip_state(state or hugging_face_state())))
    write_vocabulary(folder)
    return path


def write_tokenizer(folder: Path) -> None:
    """The vocabulary as the one file of fast tokenizers."""
    ids = {token: at for at, token in enumerate(TOKENS)}
    model = {"type": "BPE", "vocab": ids, "merges": [merge.split(" ") for merge in MERGES]}
    (folder / "tokenizer.json").write_text(json.dumps({"model": model}), encoding="utf-8")
