"""A moderation server with the model that `make` has put under .fomofeed."""

from collections.abc import AsyncIterator

import pytest

from fomofeed.moderation.v1 import moderation_service_pb2_grpc as pb_grpc
from services.moderation.__main__ import load
from services.moderation.config import ModerationConfig
from services.moderation.detectors import NsfwDetector
from services.moderation.policy import Policies
from services.moderation.servicer import SERVICE_NAME, ModerationServicer
from serving.media import ImageLimits
from serving.offload import Threads
from tests.conftest import running


@pytest.fixture
async def moderation() -> AsyncIterator[pb_grpc.ModerationServiceStub]:
    config = ModerationConfig()
    async with load(config) as model, Threads("images", 2, 64) as threads:
        detector = NsfwDetector(model, threads, ImageLimits())
        servicer = ModerationServicer(detector, Policies.load(config.policies), config)
        mount = pb_grpc.add_ModerationServiceServicer_to_server
        async with running([(mount, servicer)], [SERVICE_NAME]) as server:
            yield pb_grpc.ModerationServiceStub(server.channel)
