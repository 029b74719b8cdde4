"""The hour of the week through the three rooms that hand it on, wired as the gateway wires them."""

from datetime import datetime, timedelta
from pathlib import Path
from typing import Any
from zoneinfo import ZoneInfo

import numpy as np
import pytest

from fomofeed.profile.v1 import profile_service_pb2 as profile_pb
from fomofeed.profile.v1 import profile_service_pb2_grpc as profile_grpc
from fomofeed.ranker.v1 import ranker_service_pb2 as ranker_pb
from fomofeed.timing.v1 import timing_service_pb2 as timing_pb
from fomofeed.timing.v1 import timing_service_pb2_grpc as timing_grpc
from services.profile.config import ProfileConfig
from services.profile.opening import open_store
from services.profile.servicer import ProfileServicer
from services.ranker.features import to_rows
from services.ranker.posts import to_columns
from services.timing.advisor import Advisor
from services.timing.config import TimingConfig
from services.timing.servicer import TimingServicer
from serving.form import FORM
from tests.profile.profile_events import action, at, facts, post

ZONE = "America/Sao_Paulo"
TUESDAY_19 = 43


@pytest.fixture
async def rooms(serving_on: Any, repository: Path, tmp_path: Path) -> Any:
    profile_config = ProfileConfig(str(tmp_path / "profile.sqlite"), seed_demo_users=False)
    timing_config = TimingConfig(model_repository=repository, database=tmp_path / "timing.sqlite")
    async with open_store(profile_config) as store, Advisor(timing_config) as advisor:
        running = await serving_on(
            [
                (profile_grpc.add_ProfileServiceServicer_to_server, ProfileServicer(store)),
                (timing_grpc.add_TimingServiceServicer_to_server, TimingServicer(advisor)),
            ]
        )
        yield (
            profile_grpc.ProfileServiceStub(running.channel),
            timing_grpc.TimingServiceStub(running.channel),
        )


async def test_tuesday_19_in_sao_paulo_is_hour_43_from_event_to_ranker(rooms: Any) -> None:
    profile, timing = rooms
    await profile.IngestEvents(iter([every_hour_of_a_week()]))
    user = (await profile.GetUserProfile(profile_pb.GetUserProfileRequest(user_id=5))).user
    assert int(np.argmax(user.engagements_by_hour)) == TUESDAY_19
    suggested = await timing.SuggestPostingTimes(
        timing_pb.SuggestPostingTimesRequest(
            user_id=5,
            time_zone=user.time_zone,
            posts_by_hour=user.posts_by_hour,
            engagements_by_hour=user.engagements_by_hour,
        )
    )
    assert (suggested.optimal_hour_of_week, suggested.optimal_hour) == (TUESDAY_19, 19)
    local = (
        suggested.slots[0].start_time.ToDatetime(tzinfo=ZoneInfo("UTC")).astimezone(ZoneInfo(ZONE))
    )
    assert (local.strftime("%A"), local.hour) == ("Tuesday", 19)
    draft = ranker_pb.ScorePostRequest(hour_of_week=suggested.optimal_hour_of_week)
    expected = to_rows({"hour_of_week": np.array([43.0]), **known_flags()}, 1)
    assert np.array_equal(to_rows(to_columns([draft]), 1), expected)


def known_flags() -> dict[str, Any]:
    zero = np.zeros(1)
    names = ("is_moment", "has_video", "caption_length", "tag_count", *FORM)
    return dict.fromkeys(names, zero)


def every_hour_of_a_week() -> profile_pb.IngestEventsRequest:
    """A post in each hour of a week in May; the one of Tuesday 19:00 gains ten times as much."""
    monday = datetime(2026, 5, 4, 0, 30, tzinfo=ZoneInfo(ZONE))
    events = [facts(5, ZONE)]
    for hour in range(168):
        when = at(monday + timedelta(hours=hour))
        gained = 200.0 if hour == TUESDAY_19 else 20.0
        events += [post(5, hour + 1, when), action(5, hour + 1, weight=gained, when=when)]
    return profile_pb.IngestEventsRequest(request_id="week", events=events)
