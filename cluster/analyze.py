"""`fomofeed analyze`: one photo through the whole graph."""

import time
from dataclasses import dataclass
from pathlib import Path

import grpc

from cluster.errors import CommandError
from cluster.explain import in_words
from fomofeed.gateway.v1 import orchestrator_service_pb2 as pb
from fomofeed.gateway.v1 import orchestrator_service_pb2_grpc as pb_grpc
from serving.rpc.channels import open_channel

MAX_PHOTO_BYTES = 8 * 1024 * 1024  # the contract's limit; refused here before it is sent
DEFAULT_TIMEOUT_S = 1.0  # for a person and a laptop whose caches are cold; callers set their own


@dataclass(frozen=True, slots=True)
class Post:
    """What a person says about a photo on the command line."""

    photo: Path
    user_id: int = 12
    caption: str = ""
    tags: tuple[str, ...] = ()
    content_type: str = "post"
    locale: str = ""
    has_video: bool = False
    moderate: bool = True


@dataclass(frozen=True, slots=True)
class Answer:
    """The gateway's answer and how long it took as seen from here."""

    response: pb.OrchestrateResponse
    took_s: float


def read_photo(path: Path) -> bytes:
    """The bytes of an image file. Raises `CommandError` when it is missing, empty or too large."""
    try:
        size = path.stat().st_size
        if not path.is_file():
            raise CommandError(f"{path} is not a file")
        if size > MAX_PHOTO_BYTES:
            raise CommandError(f"{path} is {size / 2**20:.1f} MiB, at most 8 MiB: not sent")
        if size == 0:
            raise CommandError(f"{path} is empty: not sent")
        return path.read_bytes()
    except OSError as error:
        raise CommandError(f"cannot read {path}: {error.strerror}") from None


async def analyze(target: str, post: Post, timeout_s: float) -> Answer:
    """Asks the gateway at `target`. Raises `CommandError` in plain words when it fails."""
    request = pb.OrchestrateRequest(
        user_id=post.user_id,
        content_type=post.content_type,
        media=read_photo(post.photo),
        caption=post.caption,
        tags=post.tags,
        has_video=post.has_video,
        moderate=post.moderate,
        locale=post.locale,
        explain=True,
    )
    async with open_channel(target, health_service=None) as channel:
        stub = pb_grpc.OrchestratorServiceStub(channel)
        began = time.monotonic()
        try:
            response = await stub.Orchestrate(request, timeout=timeout_s)
        except grpc.aio.AioRpcError as error:
            raise CommandError(in_words(error, target)) from None
        return Answer(response, time.monotonic() - began)
