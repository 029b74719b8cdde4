from dataclasses import dataclass
from pathlib import Path

from services.moderation.policy import SHIPPED
from serving.models.artifacts import DEFAULT_REPOSITORY


@dataclass(frozen=True, slots=True)
class ModerationConfig:
    """Detectors, policies and limits of the server. Filled from `FOMOFEED_MODERATION_*`."""

    model_repository: Path = DEFAULT_REPOSITORY
    policies: Path = SHIPPED  # folder of policy files, one of them named default
    max_image_bytes: int = 8 * 1024 * 1024  # >= 1
    max_side_px: int = 4096  # >= 16
    max_texts: int = 128  # in one request, >= 1
    max_text_chars: int = 10_000  # code points of one text, >= 1
    max_batch_posts: int = 32  # in one batch request, >= 1
    image_threads: int = 2  # decode images, >= 1
    max_waiting_images: int = 256  # for those threads; each holds its bytes, >= 0
    instances: int = 1  # engines, each with a thread of its own, >= 1
    engine_threads: int = 1  # inside one engine call, >= 1
    max_batch_rows: int = 4  # images in one engine call, >= 1
    max_queue_rows: int = 512  # images that may wait for an engine, >= 1

    def __post_init__(self) -> None:
        names = ("max_texts", "max_text_chars", "max_batch_posts", "image_threads", "instances")
        for name in (*names, "engine_threads"):
            if getattr(self, name) < 1:
                raise ValueError(f"{name} is {getattr(self, name)}, >= 1")
        if self.max_waiting_images < 0:
            raise ValueError(f"max_waiting_images is {self.max_waiting_images}, >= 0")
