from collections.abc import AsyncIterator
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest

from fomofeed.timing.v1 import timing_service_pb2_grpc as pb_grpc
from services.timing.advisor import Advisor
from services.timing.config import TimingConfig
from services.timing.prior_file import Trained, read
from services.timing.servicer import TimingServicer
from serving.models.build import build

ROOT = Path(__file__).parents[2]
MONDAY = datetime(2026, 5, 4, tzinfo=UTC)
Stub = Any  # the generated stub: its type is only known to the checker


@pytest.fixture(scope="session")
def trained() -> Trained:
    """The committed prior and lifts."""
    return read(ROOT / "services/timing/artifacts/posting-times.npz")


@pytest.fixture(scope="session")
def repository(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A model repository with the committed prior."""
    folder = tmp_path_factory.mktemp("models")
    manifest = ROOT / "services/timing/manifests/posting-times.yaml"
    build(manifest, folder, folder / "packages", {})
    return folder


@pytest.fixture
async def timing(serving_on: Any, repository: Path, tmp_path: Path) -> AsyncIterator[Stub]:
    config = TimingConfig(model_repository=repository, database=tmp_path / "timing.sqlite")
    async with Advisor(config) as advisor:
        servicer = TimingServicer(advisor, clock=lambda: MONDAY)
        running = await serving_on([(pb_grpc.add_TimingServiceServicer_to_server, servicer)])
        yield pb_grpc.TimingServiceStub(running.channel)
