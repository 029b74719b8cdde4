from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from services.ranker.config import RankerConfig
from services.ranker.scorer import Scorer
from serving.engines.onnx import OnnxEngine
from serving.models.build import build

ROOT = Path(__file__).parents[2]


@pytest.fixture(scope="session")
def repository(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A model repository with the committed ranker."""
    folder = tmp_path_factory.mktemp("models")
    manifest = ROOT / "services/ranker/manifests/feed-ranker.yaml"
    build(manifest, folder, folder / "packages", {})
    return folder


@pytest.fixture(scope="session")
def engine() -> OnnxEngine:
    """The committed ranker, as it runs in the server."""
    return OnnxEngine(ROOT / "services/ranker/artifacts/feed-ranker.onnx")


@pytest.fixture
async def scorer(repository: Path) -> AsyncIterator[Scorer]:
    async with Scorer(RankerConfig(model_repository=repository)) as opened:
        yield opened
