from collections.abc import Callable
from pathlib import Path

import pytest

from services.profile.config import ProfileConfig


@pytest.fixture
def config(tmp_path: Path) -> Callable[..., ProfileConfig]:
    """Makes configurations of a database in an empty folder, without demo users unless asked."""

    def make(**changes: bool) -> ProfileConfig:
        values = {"seed_demo_users": False, "is_synced": False, **changes}
        return ProfileConfig(database=tmp_path / "profile.sqlite", **values)

    return make
