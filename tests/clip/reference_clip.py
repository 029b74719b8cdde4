"""Checkpoints that transformers writes, and what transformers makes of them. Needs the extras."""

import io
import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
import transformers
from numpy.typing import NDArray
from PIL import Image

from services.clip.vit.vocabulary import Vocabulary, from_merges
from serving.models.artifacts import DEFAULT_REPOSITORY, open_artifact

TEXTS = (
    "a photo of a cat.", "", "Ein Hund läuft 3,5 km 🐕", "猫が好きです", "قطة على الأريكة",
    "don't  stop\tnow!!", "👨‍👩‍👧‍👦 family", "word " * 200, "x" * 2200, "<|endoftext|> twice",
)  # fmt: skip


def vocabulary() -> Vocabulary:
    """The vocabulary of all published weights."""
    return from_merges(open_artifact(DEFAULT_REPOSITORY, "clip-vocabulary").path.read_bytes())


def write_checkpoint(folder: Path, config: transformers.CLIPConfig, **options: Any) -> Path:
    """Writes random weights with the files of a published directory, and returns it.

    Biases and norms, which a fresh model has at 0 and 1, are drawn too; all weights are large
    enough for pictures to lie apart.
    """
    torch.manual_seed(0)
    model = transformers.CLIPModel(config).eval()
    with torch.no_grad():
        for name, parameter in model.named_parameters():
            if "norm" in name and name.endswith("weight"):
                parameter.normal_(1, 0.2)
            elif name.endswith("bias"):
                parameter.normal_(0, 0.1)
            elif "_proj." in name or ".mlp." in name:
                parameter.mul_(2)
    model.save_pretrained(folder, **options)
    side = config.vision_config.image_size
    size = {"height": side, "width": side}
    transformers.CLIPImageProcessorPil(
        size={"shortest_edge": side}, crop_size=size
    ).save_pretrained(folder)
    words = vocabulary()
    (folder / "vocab.json").write_text(json.dumps(dict(words.ids)), encoding="utf-8")
    merges = "\n".join(("#version: 0.2", *(" ".join(pair) for pair in words.ranks), ""))
    (folder / "merges.txt").write_text(merges, encoding="utf-8")
    return folder


class Reference:
    """transformers' own model, processor and tokenizer of a directory."""

    def __init__(self, folder: Path, dtype: torch.dtype = torch.float32) -> None:
        self._model = transformers.CLIPModel.from_pretrained(folder, dtype=dtype).eval()
        self._processor = transformers.CLIPImageProcessorPil.from_pretrained(folder)
        self._tokenizer = transformers.CLIPTokenizer.from_pretrained(folder)

    def images(self, contents: Sequence[bytes]) -> NDArray[np.float32]:
        """Embeds encoded pictures, at unit length."""
        pictures = [Image.open(io.BytesIO(content)).convert("RGB") for content in contents]
        pixels = self._processor(pictures, return_tensors="pt")["pixel_values"]
        with torch.inference_mode():
            parts = [
                self._model.get_image_features(part.to(self._model.dtype))
                for part in pixels.split(8)
            ]
        return np.concatenate([_unit(part) for part in parts])

    def texts(self, texts: Sequence[str]) -> NDArray[np.float32]:
        """Embeds texts, at unit length."""
        tokens = self._tokenizer(
            list(texts), padding="max_length", max_length=77, truncation=True, return_tensors="pt"
        )
        with torch.inference_mode():
            return _unit(self._model.get_text_features(**tokens))


def _unit(output: Any) -> NDArray[np.float32]:
    features = getattr(output, "pooler_output", output)
    points: NDArray[np.float32] = torch.nn.functional.normalize(features.float(), dim=-1).numpy()
    return points
