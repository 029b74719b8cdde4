"""The models and photographs that `make` has put under .fomofeed, and a server with them."""

from collections.abc import AsyncIterator, Callable

import numpy as np
import pytest
from PIL import Image

from fomofeed.clip.v1 import clip_service_pb2_grpc as pb_grpc
from services.clip.analyzer import Analyzer
from services.clip.config import ClipConfig
from services.clip.photos import photos
from services.clip.servicer import SERVICE_NAME, ClipServicer
from serving.models.packages import fetch
from tests.conftest import running

ReadPhoto = Callable[[str], bytes]


@pytest.fixture(scope="session")
def photo() -> ReadPhoto:
    """`photo("coffee.png")` gives the encoded file."""
    sources = {entry.name: entry.source for entry in photos()}
    return lambda name: fetch(sources[name])


@pytest.fixture
async def clip() -> AsyncIterator[pb_grpc.ClipServiceStub]:
    mount = pb_grpc.add_ClipServiceServicer_to_server
    async with (
        Analyzer.open(ClipConfig()) as analyzer,
        running([(mount, ClipServicer(analyzer))], [SERVICE_NAME]) as server,
    ):
        yield pb_grpc.ClipServiceStub(server.channel)


@pytest.fixture(scope="session")
def noise() -> Image.Image:
    """A picture that no codec can make small."""
    pixels = np.random.default_rng(3).integers(0, 256, (64, 80, 3), np.uint8)
    return Image.fromarray(pixels)
