import asyncio
from datetime import timedelta
from typing import Any

import grpc
import pytest
from google.protobuf.any_pb2 import Any as AnyMessage
from google.protobuf.timestamp_pb2 import Timestamp
from google.rpc import error_details_pb2

from fomofeed.profile.v1 import profile_service_pb2 as pb
from serving.rpc.channels import status_of
from tests.profile.conftest import NOW
from tests.profile.profile_events import NOON, action, at, facts, post

Stub = Any  # the generated stub: its type is only known to the checker


async def ingest(stub: Stub, **messages: list[pb.Event]) -> pb.IngestEventsResponse:
    requests = [
        pb.IngestEventsRequest(request_id=name, events=events) for name, events in messages.items()
    ]
    return await stub.IngestEvents(iter(requests))


async def failure(call: Any) -> grpc.aio.AioRpcError:
    with pytest.raises(grpc.aio.AioRpcError) as caught:
        await call
    return caught.value


def unpacked(error: grpc.aio.AioRpcError, kind: Any) -> Any:
    detail = kind()
    packed: AnyMessage = status_of(error).details[0]
    assert packed.Unpack(detail)
    return detail


async def test_profile_of_ingested_events_comes_back(profiles: Stub) -> None:
    shown = action(3, 1, pb.EVENT_KIND_IMPRESSION, weight=20.0)
    stored = await ingest(
        profiles, a=[facts(3, "Asia/Kolkata"), post(3, 1)], b=[shown, action(3, 1, weight=5.0)]
    )
    assert (stored.accepted_count, stored.duplicate_count) == (4, 0)
    user = (await profiles.GetUserProfile(pb.GetUserProfileRequest(user_id=3))).user
    assert (user.user_name, user.time_zone, user.follower_count) == ("user 3", "Asia/Kolkata", 10)
    assert user.avg_engagement == 0.25
    assert (len(user.posts_by_hour), len(user.engagements_by_hour)) == (168, 168)
    assert user.posts_by_hour[17] == 1  # 12:00 UTC is 17:30 in Kolkata
    assert user.engagements_by_hour[17] == 5
    assert user.update_time == NOON


async def test_unknown_user_is_not_found_by_name(profiles: Stub) -> None:
    error = await failure(profiles.GetUserProfile(pb.GetUserProfileRequest(user_id=404)))
    assert error.code() is grpc.StatusCode.NOT_FOUND
    resource = unpacked(error, error_details_pb2.ResourceInfo)
    assert (resource.resource_type, resource.resource_name) == ("user", "404")


@pytest.mark.parametrize("user_id", [0, -5])
async def test_ids_below_one_are_refused(profiles: Stub, user_id: int) -> None:
    error = await failure(profiles.GetUserProfile(pb.GetUserProfileRequest(user_id=user_id)))
    assert error.code() is grpc.StatusCode.INVALID_ARGUMENT
    assert error.details() == f"user_id is {user_id}, at least 1"


async def test_one_bad_id_of_a_batch_fails_alone_and_in_its_place(profiles: Stub) -> None:
    await ingest(profiles, a=[facts(3, "UTC")])
    answer = await profiles.BatchGetUserProfiles(
        pb.BatchGetUserProfilesRequest(user_ids=[404, 3, -1])
    )
    unknown, known, bad = answer.results
    assert unknown.error.code == grpc.StatusCode.NOT_FOUND.value[0]
    assert known.profile.user_id == 3
    assert bad.error.message == "user_ids[2] is -1, at least 1"


async def test_too_many_ids_are_refused(profiles: Stub) -> None:
    request = pb.BatchGetUserProfilesRequest(user_ids=range(1, 1002))
    error = await failure(profiles.BatchGetUserProfiles(request))
    assert error.details() == "user_ids is 1001 ids, at most 1,000"


def named(name: str) -> pb.Event:
    event = facts(1, "UTC")
    event.user.user_name = name
    return event


@pytest.mark.parametrize(
    ("event", "message"),
    [
        (facts(1, "Mars/Base"), "user.time_zone is 'Mars/Base', an IANA name"),
        (facts(1, "../etc/passwd"), "user.time_zone is '../etc/passwd', an IANA name"),
        (facts(-4, "UTC"), "user_id is -4, at least 1"),
        (facts(1, "UTC", followers=-1), "user.follower_count is -1, 0 to"),
        (post(1, 0), "post_id is 0, at least 1"),
        (action(1, 1, weight=float("nan")), "weight is nan, above 0"),
        (action(1, 1, weight=-2.0), "weight is -2.0, above 0"),
        (action(1, 1, weight=float("inf")), "weight is inf, above 0"),
        (action(1, 1, weight=1e10), "weight is 10000000000.0, above 0, at most 1e+09"),
        (facts(1, ""), "user.time_zone is '', an IANA name"),
        (named("a\0b"), "user.user_name is 'a\\x00b', without NUL"),
        (named("x" * 101), "user.user_name is 101 characters, at most 100"),
        (post(1, 1, Timestamp(seconds=-1)), "event_time is -1 s, years 2000 to 2100"),
        (post(1, 1, Timestamp(seconds=10**12)), "event_time is 1000000000000 s, years 2000"),
        (post(1, 1, Timestamp(seconds=10**9, nanos=-1)), "event_time.nanos is -1, 0 to"),
        (pb.Event(kind=pb.EVENT_KIND_POST, user_id=1, post_id=1), "event_time is missing"),
        (pb.Event(user_id=1, post_id=1, event_time=NOON), "kind is 0, one of EventKind"),
        (pb.Event(kind=99, user_id=1, post_id=1, event_time=NOON), "kind is 99, one of EventKind"),  # type: ignore[arg-type]  # on purpose
    ],
)
async def test_bad_events_name_field_value_and_limit(
    profiles: Stub, event: pb.Event, message: str
) -> None:
    error = await failure(ingest(profiles, a=[post(1, 1), event]))
    assert error.code() is grpc.StatusCode.INVALID_ARGUMENT
    assert (error.details() or "").startswith(f"events[1].{message}")
    assert (
        unpacked(error, error_details_pb2.BadRequest)
        .field_violations[0]
        .field.startswith("events[1].")
    )
    assert await is_unknown(profiles, 1)


async def is_unknown(profiles: Stub, user_id: int) -> bool:
    error = await failure(profiles.GetUserProfile(pb.GetUserProfileRequest(user_id=user_id)))
    return error.code() is grpc.StatusCode.NOT_FOUND


async def test_same_request_id_with_other_content_is_refused(profiles: Stub) -> None:
    await ingest(profiles, a=[post(1, 1)])
    assert (await ingest(profiles, a=[post(1, 1)])).duplicate_count == 1
    error = await failure(ingest(profiles, a=[post(1, 2)]))
    assert error.code() is grpc.StatusCode.INVALID_ARGUMENT
    assert "used for other events" in (error.details() or "")


async def test_a_message_without_events_or_id_is_refused(profiles: Stub) -> None:
    error = await failure(profiles.IngestEvents(iter([pb.IngestEventsRequest()])))
    expected = "request_id is 0 characters, 1 to 128 characters; events is 0 events, 1 to 10,000"
    assert error.details() == expected


async def test_empty_lists_have_empty_answers(profiles: Stub) -> None:
    nobody = await profiles.BatchGetUserProfiles(pb.BatchGetUserProfilesRequest())
    assert list(nobody.results) == []
    nothing = await profiles.IngestEvents(iter([]))
    assert (nothing.accepted_count, nothing.duplicate_count) == (0, 0)


@pytest.mark.parametrize(
    ("request_id", "events", "message"),
    [
        ("a", [post(1, 1)] * 10_001, "events is 10001 events, 1 to 10,000"),
        ("x" * 129, [post(1, 1)], "request_id is 129 characters, 1 to 128 characters"),
        ("a", [post(1, -1)] * 10_000, "events[0].post_id is -1, at least 1; events[1].post_id"),
        ("a", [facts(1, "x" * 1_000_000)], "events[0].user.time_zone is 'xxx"),
        ("a", [facts(1, "Europe")], "events[0].user.time_zone is 'Europe', an IANA name"),
    ],
)
async def test_what_is_huge_is_refused_in_a_few_words(
    profiles: Stub, request_id: str, events: list[pb.Event], message: str
) -> None:
    error = await failure(ingest(profiles, **{request_id: events}))
    assert error.code() is grpc.StatusCode.INVALID_ARGUMENT
    assert (error.details() or "").startswith(message)
    assert len(error.details() or "") < 2000
    assert await is_unknown(profiles, 1)


async def test_the_largest_message_is_taken(profiles: Stub) -> None:
    stored = await ingest(profiles, a=[action(1, 1 + k % 100) for k in range(10_000)])
    assert stored.accepted_count == 10_000


async def test_messages_of_many_streams_are_each_counted_once(profiles: Stub) -> None:
    calls = [
        ingest(profiles, **{f"s{i}": [action(1, 1)], "shared": [post(1, 1)]}) for i in range(20)
    ]
    answers = await asyncio.gather(*calls)
    assert sum(answer.accepted_count for answer in answers) == 21
    user = (await profiles.GetUserProfile(pb.GetUserProfileRequest(user_id=1))).user
    assert (user.post_count, sum(user.engagements_by_hour)) == (1, 20)


async def test_a_deleted_user_is_not_found_and_may_begin_anew(profiles: Stub) -> None:
    request = pb.DeleteUserRequest(user_id=3)
    await ingest(profiles, a=[facts(3, "UTC"), post(3, 1)])
    assert (await profiles.DeleteUser(request)).was_known
    assert not (await profiles.DeleteUser(request)).was_known
    assert await is_unknown(profiles, 3)
    await ingest(profiles, b=[post(3, 9)])
    user = (await profiles.GetUserProfile(pb.GetUserProfileRequest(user_id=3))).user
    assert (user.user_name, user.post_count) == ("", 1)


async def test_deleting_an_id_below_one_is_refused(profiles: Stub) -> None:
    error = await failure(profiles.DeleteUser(pb.DeleteUserRequest(user_id=0)))
    assert error.code() is grpc.StatusCode.INVALID_ARGUMENT
    assert error.details() == "user_id is 0, at least 1"


async def test_an_event_after_tomorrow_is_refused_and_names_both_clocks(profiles: Stub) -> None:
    await ingest(profiles, a=[post(1, 1, at(NOW + timedelta(hours=23)))])
    late = at(NOW + timedelta(days=365))
    error = await failure(ingest(profiles, b=[facts(1, "UTC", late)]))
    assert error.code() is grpc.StatusCode.INVALID_ARGUMENT
    assert (error.details() or "").startswith(
        "events.event_time is 2027-05-10T00:00:00+00:00, at most a day ahead of the server's clock"
    )


async def test_of_two_contents_under_one_request_id_exactly_one_is_stored(profiles: Stub) -> None:
    calls = [ingest(profiles, same=[post(1, number)]) for number in (1, 2, 1, 2, 1, 2)]
    answers = await asyncio.gather(*calls, return_exceptions=True)
    refused = [answer for answer in answers if isinstance(answer, grpc.aio.AioRpcError)]
    stored = [answer for answer in answers if isinstance(answer, pb.IngestEventsResponse)]
    assert {error.code() for error in refused} == {grpc.StatusCode.INVALID_ARGUMENT}
    assert (len(refused), len(stored)) == (3, 3)
    assert sum(answer.accepted_count for answer in stored) == 1
