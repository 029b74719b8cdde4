from datetime import UTC, datetime, timedelta
from typing import Any

import grpc
import pytest

from fomofeed.timing.v1 import timing_service_pb2 as pb
from tests.timing.conftest import MONDAY, Stub


def request(**fields: Any) -> pb.SuggestPostingTimesRequest:
    return pb.SuggestPostingTimesRequest(**fields)


def history(best: int, posts: float = 1.0) -> dict[str, list[float]]:
    """A user who posts at all hours and gains ten times as much at one."""
    engagements = [10.0 * posts] * 168
    engagements[best] = 100.0 * posts
    return {"posts_by_hour": [posts] * 168, "engagements_by_hour": engagements}


async def failure(call: Any) -> grpc.aio.AioRpcError:
    with pytest.raises(grpc.aio.AioRpcError) as caught:
        await call
    return caught.value


async def test_tuesday_evening_in_sao_paulo_starts_when_it_does(timing: Stub) -> None:
    answer = await timing.SuggestPostingTimes(
        request(user_id=12, time_zone="America/Sao_Paulo", **history(best=43))
    )
    assert (answer.optimal_hour_of_week, answer.optimal_hour) == (43, 19)
    best = answer.slots[0]
    assert best.hour_of_week == 43
    assert best.start_time.ToDatetime() == datetime(2026, 5, 5, 22, 0)
    assert best.relative_engagement.p10 > 1
    assert answer.evidence == pb.EVIDENCE_OWN_HISTORY
    assert answer.post_count == 168


async def test_nobody_known_gets_the_population_and_is_told(timing: Stub) -> None:
    answer = await timing.SuggestPostingTimes(request())
    assert answer.evidence == pb.EVIDENCE_POPULATION
    assert len(answer.slots) == 3
    assert answer.model.trained_on == "simulator"
    assert answer.model.experimental
    assert len(answer.model.artifact_sha256) == 64


async def test_constraints_are_kept(timing: Stub) -> None:
    weekend = list(range(120, 168))
    opens, closes = MONDAY + timedelta(days=2), MONDAY + timedelta(days=9)
    asked = request(blocked_hours_of_week=weekend, max_slots=168, **history(best=130))
    asked.not_before.FromDatetime(opens)
    asked.not_after.FromDatetime(closes)
    answer = await timing.SuggestPostingTimes(asked)
    assert len(answer.slots) == 120
    for slot in answer.slots:
        assert slot.hour_of_week not in weekend
        assert opens <= slot.start_time.ToDatetime(tzinfo=UTC) <= closes


async def test_quality_and_video_lift_engagement_and_never_move_the_hour(timing: Stub) -> None:
    plain = await timing.SuggestPostingTimes(request(**history(best=43)))
    good = await timing.SuggestPostingTimes(
        request(quality_score=8.0, has_video=True, **history(best=43))
    )
    assert list(good.slots) == list(plain.slots)
    assert plain.quality_lift.p50 == plain.video_lift.p50 == 1
    assert 1 < good.quality_lift.p50 <= 1.3
    assert 1 < good.video_lift.p50 <= 1.3


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"time_zone": "Mars/Base"}, "time_zone is 'Mars/Base', an IANA name"),
        ({"user_id": -1}, "user_id is -1, at least 0"),
        (
            {"posts_by_hour": [1.0] * 24, "engagements_by_hour": [1.0] * 24},
            "posts_by_hour is 24 cells",
        ),
        ({"posts_by_hour": [1.0] * 168}, "engagements_by_hour is 0 cells, as many as"),
        ({"quality_score": 10.5}, "quality_score is 10.5, 0 to 10"),
        ({"quality_score": float("nan")}, "quality_score is nan, 0 to 10"),
        ({"blocked_hours_of_week": [25, 168]}, "blocked_hours_of_week[1] is 168, 0 to 167"),
        ({"blocked_hours_of_week": range(168)}, "blocked_hours_of_week is 168 hours, at least one"),
        ({"max_slots": -1}, "max_slots is -1, 0 to 168"),
        ({"not_before": {"seconds": 2 * 10**11}}, "not_before is 200000000000 s, years 2000"),
        ({"not_after": {"seconds": 10**9}}, "not_after is 2001-09-09T01:46:40+00:00, from 2026"),
    ],
)
async def test_bad_requests_name_field_value_and_limit(
    timing: Stub, fields: dict[str, Any], message: str
) -> None:
    error = await failure(timing.SuggestPostingTimes(request(**fields)))
    assert error.code() is grpc.StatusCode.INVALID_ARGUMENT
    assert (error.details() or "").startswith(message)


@pytest.mark.parametrize("value", [float("nan"), -1.0, float("inf")])
async def test_cells_that_are_no_counts_are_refused(timing: Stub, value: float) -> None:
    fields = history(best=43)
    fields["engagements_by_hour"][7] = value
    error = await failure(timing.SuggestPostingTimes(request(**fields)))
    assert (error.details() or "").startswith(f"engagements_by_hour[7] is {value}, 0 to 1e+12")


async def test_one_bad_request_of_a_batch_fails_alone(timing: Stub) -> None:
    good = request(time_zone="Asia/Tokyo", **history(best=43))
    batch = pb.BatchSuggestPostingTimesRequest(requests=[good, request(user_id=-1), good])
    first, bad, last = (await timing.BatchSuggestPostingTimes(batch)).results
    assert bad.error.message == "user_id is -1, at least 0"
    assert first.response == last.response == await timing.SuggestPostingTimes(good)


def outcome(request_id: str, hour: int, engagements: float) -> pb.RecordPostOutcomeRequest:
    recorded = pb.RecordPostOutcomeRequest(
        user_id=5, engagements=engagements, request_id=request_id
    )
    recorded.post_time.FromDatetime(MONDAY + timedelta(hours=hour))
    return recorded


async def test_recorded_outcomes_count_at_once_and_once(timing: Stub) -> None:
    for hour in range(168):
        recorded = outcome(f"post-{hour}", hour, 100.0 if hour == 77 else 10.0)
        assert not (await timing.RecordPostOutcome(recorded)).duplicate
        assert (await timing.RecordPostOutcome(recorded)).duplicate
    mine = await timing.SuggestPostingTimes(request(user_id=5))
    assert (mine.optimal_hour_of_week, mine.post_count) == (77, 168)
    assert (await timing.SuggestPostingTimes(request(user_id=6))).post_count == 0


async def test_outcomes_are_counted_in_the_zone_of_the_request(timing: Stub) -> None:
    for hour in range(168):
        await timing.RecordPostOutcome(outcome(str(hour), hour, 100.0 if hour == 77 else 10.0))
    tokyo = await timing.SuggestPostingTimes(request(user_id=5, time_zone="Asia/Tokyo"))
    assert tokyo.optimal_hour_of_week == 77 + 9


async def test_same_request_id_with_another_outcome_is_refused(timing: Stub) -> None:
    await timing.RecordPostOutcome(outcome("a", 3, 10.0))
    error = await failure(timing.RecordPostOutcome(outcome("a", 3, 11.0)))
    assert error.code() is grpc.StatusCode.INVALID_ARGUMENT
    assert "request_id is 'a', once for one outcome" in (error.details() or "")


async def test_bad_outcomes_name_every_field(timing: Stub) -> None:
    error = await failure(
        timing.RecordPostOutcome(pb.RecordPostOutcomeRequest(engagements=float("nan")))
    )
    assert error.details() == (
        "user_id is 0, at least 1; post_time is missing, required; "
        "engagements is nan, 0 to 1e+12; request_id is 0 characters, 1 to 128 characters"
    )


async def test_deleted_outcomes_count_no_more(timing: Stub) -> None:
    await timing.RecordPostOutcome(outcome("a", 3, 10.0))
    deleted = await timing.DeleteUserOutcomes(pb.DeleteUserOutcomesRequest(user_id=5))
    assert deleted.deleted_count == 1
    assert (await timing.SuggestPostingTimes(request(user_id=5))).post_count == 0


async def test_deleting_the_outcomes_of_an_id_below_one_is_refused(timing: Stub) -> None:
    error = await failure(timing.DeleteUserOutcomes(pb.DeleteUserOutcomesRequest(user_id=-2)))
    assert error.code() is grpc.StatusCode.INVALID_ARGUMENT
    assert error.details() == "user_id is -2, at least 1"
