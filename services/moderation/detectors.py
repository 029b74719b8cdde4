"""What a detector is, and the one that is loaded: Yahoo's Open-NSFW for images."""

import io
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from fomofeed.type.v1 import type_pb2
from serving.media import ImageLimits, decode_image
from serving.models.model import Model
from serving.offload import Threads

NSFW = "nsfw"
RESIZED_PX, SIDE_PX = 256, 224
ENOUGH_PX = 1024  # reducing further before the bilinear resize moves scores by up to .03
BGR_MEAN = np.array([104, 117, 123], np.float32)  # of the training set, by its Caffe deployment
_OUTPUT, _NSFW_COLUMN = "4195", 1


@dataclass(frozen=True, slots=True)
class Finding:
    """What a detector says of one category."""

    category: str
    p_violation: float  # 0 … 1, as the detector gives it
    model: type_pb2.ModelRef


@dataclass(frozen=True, slots=True)
class NsfwDetector:
    """Open-NSFW on one image: nudity and sexual content as a whole, without a place in it."""

    model: Model
    threads: Threads
    limits: ImageLimits

    async def assess(self, content: bytes, field: str) -> Finding:
        """Assesses an encoded image; raises `InvalidRequestError` about `field`."""
        tensor = await self.threads.run(preprocess, content, self.limits, field)
        outputs = await self.model.infer({"input_0": tensor[None]})
        return Finding(NSFW, float(outputs[_OUTPUT][0, _NSFW_COLUMN]), self.model.ref)


def preprocess(content: bytes, limits: ImageLimits, field: str) -> NDArray[np.float32]:
    """Returns (224, 224, 3) BGR minus the mean, by the steps that the model was trained after.

    The JPEG round trip is one of them: the weights were fitted to its artefacts. In a thread.
    """
    pixels = decode_image(content, limits, ENOUGH_PX, field).pixels
    resized = Image.fromarray(pixels).resize((RESIZED_PX, RESIZED_PX), Image.Resampling.BILINEAR)
    buffer = io.BytesIO()
    resized.save(buffer, "JPEG")
    margin = (RESIZED_PX - SIDE_PX) // 2
    crop = Image.open(buffer).crop((margin, margin, margin + SIDE_PX, margin + SIDE_PX))
    return np.asarray(crop, np.float32)[:, :, ::-1] - BGR_MEAN
