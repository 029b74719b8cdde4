"""Ladders of damage for photographs: the same six kinds, five steps each, every time.

A photograph is first brought to 512 px of its shorter side, so that a step means the same for all.
"""

import io
from collections.abc import Callable, Collection, Mapping, Sequence

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageFilter

from services.clip.photos import photos
from serving.models.packages import fetch

SHORT_SIDE_PX = 512
LISTS = ("photos", "labelled", "held_out")
NO_PHOTOGRAPHS = ("art", "document", "map", "science")
TEXTURES = ("brick.png", "grass.png", "horse.png", "imagenet_12_741.jpg")

Damage = Callable[[Image.Image], Image.Image]


def photographs(only: Collection[str] = ()) -> dict[str, Image.Image]:
    """Returns the photographs of `photos.yaml` by name, at most 512 px of the shorter side.

    All of them, or `only` those named.
    """
    entries = [entry for part in LISTS for entry in photos(part)]
    return {
        entry.name: brought_down(Image.open(io.BytesIO(fetch(entry.source))).convert("RGB"))
        for entry in entries
        if entry.kind not in NO_PHOTOGRAPHS and entry.name not in TEXTURES
        if not only or entry.name in only
    }


def brought_down(image: Image.Image) -> Image.Image:
    """Returns the image with a shorter side of 512 px, or as it is if that is less."""
    scale = SHORT_SIDE_PX / min(image.size)
    if scale >= 1:
        return image
    size = (round(image.width * scale), round(image.height * scale))
    return image.resize(size, Image.Resampling.LANCZOS)


def jpeg(image: Image.Image, quality: int) -> Image.Image:
    """Encodes and decodes again."""
    buffer = io.BytesIO()
    image.save(buffer, "JPEG", quality=quality)
    return Image.open(io.BytesIO(buffer.getvalue())).convert("RGB")


def half(image: Image.Image) -> Image.Image:
    """Resizes to half of both sides."""
    return image.resize((image.width // 2, image.height // 2), Image.Resampling.LANCZOS)


def _levels(change: Callable[[NDArray[np.float32]], NDArray[np.float32]]) -> Damage:
    def damaged(image: Image.Image) -> Image.Image:
        changed = change(np.asarray(image).astype(np.float32))
        return Image.fromarray(np.clip(changed + 0.5, 0, 255).astype(np.uint8))

    return damaged


def _blur(sigma_px: float) -> Damage:
    return lambda image: image.filter(ImageFilter.GaussianBlur(sigma_px))


def _noise(sigma: float) -> Damage:
    rng = np.random.default_rng(int(10 * sigma))
    return _levels(lambda x: x + rng.normal(0, sigma, x.shape).astype(np.float32))


def _jpeg(quality: int) -> Damage:
    return lambda image: jpeg(image, quality)


def _gain(factor: float) -> Damage:
    return _levels(lambda x: x * factor)


def _overexposed(lost: float) -> Damage:
    """Brightens until so much of the picture is at the top: a gain alone would mend a dark one."""

    def damaged(image: Image.Image) -> Image.Image:
        highlight = float(np.quantile(np.asarray(image.convert("L")), 1 - lost))
        return _gain(max(1.0, 255 / max(highlight, 1.0)))(image)

    return damaged


def _contrast(factor: float) -> Damage:
    return _levels(lambda x: 128 + factor * (x - 128))


LADDERS: Mapping[str, Sequence[Damage]] = {
    "blur": [_blur(sigma) for sigma in (1, 1.7, 2.6, 4, 6.5)],  # pixels
    "noise": [_noise(sigma) for sigma in (8, 14, 22, 34, 52)],  # grey levels of 255
    "JPEG": [_jpeg(quality) for quality in (45, 28, 17, 10, 5)],
    "low light": [_gain(factor) for factor in (0.6, 0.42, 0.3, 0.2, 0.12)],
    "over-exposure": [_overexposed(lost) for lost in (0.15, 0.25, 0.4, 0.55, 0.75)],
    "low contrast": [_contrast(factor) for factor in (0.7, 0.5, 0.35, 0.22, 0.12)],
}


def rank_correlation(scores: Sequence[float]) -> float:
    """Spearman's of a ladder's scores with falling from step to step: 1 if each scores less."""
    ranks = np.argsort(np.argsort([-score for score in scores], kind="stable"), kind="stable")
    return float(np.corrcoef(ranks, np.arange(len(scores)))[0, 1])
