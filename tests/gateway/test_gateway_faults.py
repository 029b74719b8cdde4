"""The gateway's own trouble maker, on the virtual clock."""

import math
from pathlib import Path
from random import Random

import grpc
import pytest

from fomofeed.profile.v1 import profile_service_pb2 as profile_pb
from services.gateway.__main__ import load_plans, policies_of
from services.gateway.config import GatewayConfig
from services.gateway.policies.faults import Fault, Faulty, parse_faults, spoiled
from serving.settings import SettingsError, load
from tests.gateway.scripts import ANSWER, REQUEST, Script
from tests.virtual_time import now, virtual_time


def test_faults_are_written_as_text() -> None:
    text = "clip:latency=200ms@0.3; ranker:error; text:error=INTERNAL;timing:hang@0.1;a:garbage=nan"
    assert parse_faults(text) == (
        Fault("clip", "latency", "200ms", 0.3, 0.2),
        Fault("ranker", "error"),
        Fault("text", "error", "INTERNAL"),
        Fault("timing", "hang", "", 0.1),
        Fault("a", "garbage", "nan"),
    )
    assert parse_faults("") == ()


@pytest.mark.parametrize(
    "wrong",
    [
        "clip",
        "clip:melt",
        ":hang",
        "clip:latency",
        "clip:latency=5",
        "clip:error=OOPS",
        "clip:garbage=red",
        "clip:hang=3",
        "clip:hang@2",
        "clip:hang@often",
    ],
)
def test_what_is_no_fault_stops_the_start(wrong: str) -> None:
    with pytest.raises(SettingsError):
        load("gateway", GatewayConfig, environ={"FOMOFEED_GATEWAY_FAULTS": wrong})


def test_a_fault_of_no_node_stops_the_start() -> None:
    config = GatewayConfig(faults="clib:hang")
    with pytest.raises(SettingsError, match=r"faults name clib; nodes: caption, clip"):
        policies_of(config, load_plans(config))


@virtual_time
async def test_latency_delays_and_a_hang_lasts_until_the_deadline() -> None:
    call = Script([(0.1, ANSWER)])
    assert await Faulty(call, parse_faults("n:latency=200ms"), Random(1))(REQUEST, 9.0) is ANSWER
    assert now() == pytest.approx(0.3)
    outcome = await Faulty(call, parse_faults("n:hang"), Random(1))(REQUEST, 9.0)
    assert outcome.code is grpc.StatusCode.DEADLINE_EXCEEDED
    assert now() == pytest.approx(9.0)
    assert len(call.started) == 1


@virtual_time
async def test_a_share_of_the_calls_suffers() -> None:
    call = Script([(0.0, ANSWER)])
    faulty = Faulty(call, parse_faults("n:error=INTERNAL@0.25"), Random(1))
    outcomes = [await faulty(REQUEST, 9.0) for _ in range(1000)]
    broken = sum(outcome.code is grpc.StatusCode.INTERNAL for outcome in outcomes)
    assert 200 < broken < 300
    assert len(call.started) == 1000 - broken


def test_garbage_spoils_numbers_lists_or_everything() -> None:
    user = profile_pb.UserProfile(user_name="Ana", posts_by_hour=[1.0] * 168, avg_engagement=0.5)
    answer = profile_pb.GetUserProfileResponse(user=user)
    nan, sizes, empty = (spoiled(answer, how) for how in ("nan", "sizes", "empty"))
    assert isinstance(nan, profile_pb.GetUserProfileResponse)
    assert isinstance(sizes, profile_pb.GetUserProfileResponse)
    assert math.isnan(nan.user.posts_by_hour[0])
    assert math.isnan(nan.user.avg_engagement)
    assert len(sizes.user.posts_by_hour) == 84
    assert empty == profile_pb.GetUserProfileResponse()
    assert answer.user == user


def test_nothing_that_a_caller_sends_names_a_fault() -> None:
    room = Path(__file__).parents[2] / "services/gateway"
    users = {path.name for path in room.rglob("*.py") if "parse_faults" in path.read_text()}
    assert users == {"faults.py", "config.py", "__main__.py"}
