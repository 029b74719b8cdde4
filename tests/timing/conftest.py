from pathlib import Path

import pytest

from services.timing.prior_file import Trained, read
from serving.models.build import build

ROOT = Path(__file__).parents[2]


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
