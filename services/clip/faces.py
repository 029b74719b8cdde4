"""From the face detector's 896 anchors to portrait, group, or nothing.

A face counts only in a picture where the object detector sees a person: alone, the face detector
takes cats, lions and round flowers for faces as surely as people. Nobody is recognised, and
nothing of a face is kept: only how many there are and how large.
"""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from services.clip.quality import Pixels
from services.clip.tags import Tag

SOURCE = "faces"
SIDE_PX = 256
GATE = 0.60  # of a score that counts as a face
OVERLAP = 0.30  # of two boxes, intersection over union, from which they are one face
PORTRAIT_HEIGHT = 0.14  # of the longer side, from which one face is the subject
GROUP_COUNT = 3
MAX_FACES = 50

Boxes = NDArray[np.float32]  # (n, 4): left, top, right, bottom


@dataclass(frozen=True, slots=True)
class Face:
    """One face: how sure, and its height as a share of the picture's longer side."""

    score: float
    height: float


def tags(faces: list[Face]) -> list[Tag]:
    """Returns what the faces, surest first, make of the picture: group, portrait, or nothing."""
    if len(faces) >= GROUP_COUNT:
        return [Tag("group", faces[GROUP_COUNT - 1].score, SOURCE)]
    if len(faces) == 1 and faces[0].height >= PORTRAIT_HEIGHT:
        return [Tag("portrait", faces[0].score, SOURCE)]
    return []


def found(scores: NDArray[np.float32], boxes: Boxes) -> list[Face]:
    """Returns distinct faces, the surest first, of (896,) scores and (896, 4) boxes."""
    kept: list[int] = []
    for at in np.argsort(-scores):
        if scores[at] < GATE or len(kept) == MAX_FACES:
            break
        if not kept or _overlaps(boxes[at], boxes[kept]).max() < OVERLAP:
            kept.append(int(at))
    return [Face(float(scores[at]), float(boxes[at, 3] - boxes[at, 1])) for at in kept]


def cut(pixels: Pixels) -> Pixels:
    """Returns the whole picture in its proportions on a black square, (256, 256, 3)."""
    image = Image.fromarray(pixels)
    scale = SIDE_PX / max(image.size)
    size = (max(1, round(image.width * scale)), max(1, round(image.height * scale)))
    reduced = image.resize(size, Image.Resampling.BILINEAR, reducing_gap=2)
    square = Image.new("RGB", (SIDE_PX, SIDE_PX))
    square.paste(reduced, ((SIDE_PX - size[0]) // 2, (SIDE_PX - size[1]) // 2))
    return np.asarray(square)


def _overlaps(box: NDArray[np.float32], others: Boxes) -> NDArray[np.float32]:
    """Intersection over union of one box with each of the others."""
    low, high = np.maximum(box[:2], others[:, :2]), np.minimum(box[2:], others[:, 2:])
    common = np.prod(np.maximum(high - low, 0), axis=1)
    sizes = np.prod(others[:, 2:] - others[:, :2], axis=1) + np.prod(box[2:] - box[:2])
    shares: NDArray[np.float32] = common / np.maximum(sizes - common, 1e-12)
    return shares
