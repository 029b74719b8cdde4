from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest

from cluster.errors import CommandError
from cluster.forget import forget
from fomofeed.profile.v1 import profile_service_pb2_grpc as profile_grpc
from fomofeed.timing.v1 import timing_service_pb2 as timing_pb
from fomofeed.timing.v1 import timing_service_pb2_grpc as timing_grpc
from services.profile.config import ProfileConfig
from services.profile.opening import open_store
from services.profile.servicer import ProfileServicer
from services.timing.advisor import Advisor
from services.timing.config import TimingConfig
from services.timing.servicer import TimingServicer
from serving.models.build import build

ROOT = Path(__file__).parents[2]
MARINA = 12


@pytest.fixture
async def target(serving_on: Any, tmp_path: Path) -> AsyncIterator[str]:
    """One server with both services, and an outcome recorded for a demo user."""
    manifest = ROOT / "services/timing/manifests/posting-times.yaml"
    build(manifest, tmp_path / "models", tmp_path / "packages", {})
    config = TimingConfig(model_repository=tmp_path / "models", database=tmp_path / "t.sqlite")
    async with (
        open_store(ProfileConfig(str(tmp_path / "p.sqlite"), is_synced=False)) as store,
        Advisor(config) as advisor,
    ):
        running = await serving_on(
            [
                (profile_grpc.add_ProfileServiceServicer_to_server, ProfileServicer(store)),
                (timing_grpc.add_TimingServiceServicer_to_server, TimingServicer(advisor)),
            ]
        )
        recorded = timing_pb.RecordPostOutcomeRequest(user_id=MARINA, request_id="a", engagements=3)
        recorded.post_time.FromSeconds(1_700_000_000)
        await timing_grpc.TimingServiceStub(running.channel).RecordPostOutcome(recorded)
        yield running.target


def is_named(folder: Path) -> bool:
    return any(b"Marina Souza" in path.read_bytes() for path in folder.glob("p.sqlite*"))


async def test_a_forgotten_user_is_gone_from_both_stores(target: str, tmp_path: Path) -> None:
    assert is_named(tmp_path)
    said = await forget(target, target, MARINA, timeout_s=30.0)
    assert said == ["profile: deleted", "timing: 1 recorded outcomes deleted"]
    assert not is_named(tmp_path)
    said = await forget(target, target, MARINA, timeout_s=30.0)
    assert said == ["profile: nothing was kept", "timing: 0 recorded outcomes deleted"]


async def test_a_server_that_fails_does_not_keep_the_other_from_forgetting(target: str) -> None:
    with pytest.raises(
        CommandError, match=r"(?s)127\.0\.0\.1:1.*timing: 1 recorded .*calling again"
    ):
        await forget("127.0.0.1:1", target, MARINA, timeout_s=5.0)


async def test_an_id_below_one_is_refused_in_words(target: str) -> None:
    with pytest.raises(CommandError, match="user_id is 0, at least 1"):
        await forget(target, target, 0, timeout_s=5.0)
