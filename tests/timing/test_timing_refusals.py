"""Outcomes that cannot be, batches of any length, clocks that leap: each has its answer."""

from collections.abc import AsyncIterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import grpc
import pytest

from fomofeed.timing.v1 import timing_service_pb2 as pb
from fomofeed.timing.v1 import timing_service_pb2_grpc as pb_grpc
from services.timing.advisor import Advisor
from services.timing.config import TimingConfig
from services.timing.servicer import TimingServicer
from tests.timing.conftest import MONDAY, Stub


class Clock:
    """A clock that can be set."""

    def __init__(self) -> None:
        self.now = MONDAY

    def __call__(self) -> datetime:
        return self.now


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
async def timing(
    serving_on: Any, repository: Path, tmp_path: Path, clock: Clock
) -> AsyncIterator[Stub]:
    config = TimingConfig(model_repository=repository, database=tmp_path / "timing.sqlite")
    async with Advisor(config) as advisor:
        servicer = TimingServicer(advisor, clock=clock)
        running = await serving_on([(pb_grpc.add_TimingServiceServicer_to_server, servicer)])
        yield pb_grpc.TimingServiceStub(running.channel)


async def refused(call: Any) -> str:
    with pytest.raises(grpc.aio.AioRpcError) as caught:
        await call
    assert caught.value.code() is grpc.StatusCode.INVALID_ARGUMENT
    return caught.value.details() or ""


def outcome(**changes: Any) -> pb.RecordPostOutcomeRequest:
    fields = {"user_id": 5, "engagements": 1.0, "request_id": "a"}
    fields["post_time"] = {"seconds": int(MONDAY.timestamp())}
    return pb.RecordPostOutcomeRequest(**{**fields, **changes})


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"engagements": -1.0}, "engagements is -1.0, 0 to 1e+12"),
        ({"engagements": float("inf")}, "engagements is inf, 0 to 1e+12"),
        ({"engagements": 1e13}, "engagements is 10000000000000.0, 0 to 1e+12"),
        ({"post_time": {"seconds": 0}}, "post_time is 0 s, years 2000"),
        ({"post_time": {"seconds": 10**12}}, "post_time is 1000000000000 s, years 2000"),
        ({"request_id": "x" * 129}, "request_id is 129 characters, 1 to 128 characters"),
        ({"user_id": -1}, "user_id is -1, at least 1"),
    ],
)
async def test_an_outcome_that_cannot_be_is_refused_by_field_value_and_limit(
    timing: Stub, changes: dict[str, Any], message: str
) -> None:
    said = await refused(timing.RecordPostOutcome(outcome(**changes)))
    assert said.startswith(message)


async def test_an_empty_batch_has_an_empty_answer(timing: Stub) -> None:
    answer = await timing.BatchSuggestPostingTimes(pb.BatchSuggestPostingTimesRequest())
    assert list(answer.results) == []


async def test_a_batch_of_a_thousand_and_one_is_refused(timing: Stub) -> None:
    requests = [pb.SuggestPostingTimesRequest()] * 1001
    said = await refused(
        timing.BatchSuggestPostingTimes(pb.BatchSuggestPostingTimesRequest(requests=requests))
    )
    assert said == "requests is 1001 requests, at most 1,000"


@pytest.mark.parametrize("leap", [timedelta(days=9000), timedelta(days=-9000)])
async def test_a_clock_that_leaps_moves_the_window_and_nothing_that_was_learned(
    timing: Stub, clock: Clock, leap: timedelta
) -> None:
    await timing.RecordPostOutcome(outcome())
    request = pb.SuggestPostingTimesRequest(user_id=5, max_slots=168)
    before = await timing.SuggestPostingTimes(request)
    clock.now = MONDAY + leap
    after = await timing.SuggestPostingTimes(request)
    assert after.optimal_hour_of_week == before.optimal_hour_of_week
    assert after.post_count == before.post_count == 1
    starts = [slot.start_time.ToDatetime(tzinfo=UTC) for slot in after.slots]
    assert clock.now <= min(starts) <= max(starts) <= clock.now + timedelta(days=7)
    assert (await timing.RecordPostOutcome(outcome())).duplicate


HUGE = 1_000_000


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        (
            {"blocked_hours_of_week": [-1] * HUGE},
            f"blocked_hours_of_week is {HUGE} hours, at most 168, each once",
        ),
        ({"posts_by_hour": [-1.0] * HUGE}, f"posts_by_hour is {HUGE} cells, exactly 168, or none"),
        (
            {"posts_by_hour": [-1.0] * 168, "engagements_by_hour": [float("nan")] * 168},
            "posts_by_hour[0] is -1.0, 0 to 1e+09; posts_by_hour[1] is -1.0",
        ),
        ({"time_zone": "Europe/" + "x" * HUGE}, "time_zone is 'Europe/xxx"),
        ({"time_zone": "Europe"}, "time_zone is 'Europe', an IANA name"),  # a folder of zones
        ({"time_zone": "../../etc/passwd"}, "time_zone is '../../etc/passwd', an IANA name"),
        ({"time_zone": "UTC\0"}, "time_zone is 'UTC\\x00', an IANA name"),
        ({"time_zone": "+25:00"}, "time_zone is '+25:00', an IANA name"),
        ({"blocked_hours_of_week": [24, 25, -1]}, "blocked_hours_of_week[2] is -1, 0 to 167"),
        ({"max_slots": 169}, "max_slots is 169, 0 to 168"),
        ({"not_before": {"nanos": -1, "seconds": 10**9}}, "not_before.nanos is -1, 0 to"),
    ],
)
async def test_what_is_huge_or_strange_is_refused_in_a_few_words(
    timing: Stub, fields: dict[str, Any], message: str
) -> None:
    said = await refused(timing.SuggestPostingTimes(pb.SuggestPostingTimesRequest(**fields)))
    assert said.startswith(message)
    assert len(said) < 2000


async def test_one_fault_is_told_beside_the_others(timing: Stub) -> None:
    request = pb.SuggestPostingTimesRequest(user_id=-1, time_zone="Nowhere", max_slots=-1)
    said = await refused(timing.SuggestPostingTimes(request))
    assert [part.split()[0] for part in said.split("; ")] == ["user_id", "time_zone", "max_slots"]
