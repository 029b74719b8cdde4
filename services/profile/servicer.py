import asyncio
from collections.abc import AsyncIterator
from datetime import UTC, datetime

import grpc

from fomofeed.profile.v1 import profile_service_pb2 as pb
from fomofeed.profile.v1 import profile_service_pb2_grpc as pb_grpc
from services.profile.events import Message, check_clock, read_message
from services.profile.peaks import peak_hours
from services.profile.profiles import Profile, ProfileStore
from services.profile.retention import Clock
from serving.errors import InvalidRequestError, NotFoundError, ServingError, Violation, to_status

SERVICE_NAME = "fomofeed.profile.v1.ProfileService"
MAX_BATCH = 1000  # ids in one BatchGetUserProfiles
MAX_ON_LOOP = 100  # events; about 0.3 ms


class ProfileServicer(pb_grpc.ProfileServiceServicer):
    """Answers for one store. `clock` tells the aware time after which no event can have been."""

    def __init__(self, store: ProfileStore, clock: Clock = lambda: datetime.now(UTC)) -> None:
        self._store = store
        self._clock = clock

    async def GetUserProfile(
        self,
        request: pb.GetUserProfileRequest,
        context: grpc.aio.ServicerContext[pb.GetUserProfileRequest, pb.GetUserProfileResponse],
    ) -> pb.GetUserProfileResponse:
        _check_user(request.user_id, "user_id")
        (profile,) = await self._store.profiles([request.user_id])
        if profile is None:
            raise NotFoundError("user", str(request.user_id))
        return pb.GetUserProfileResponse(user=to_proto(profile))

    async def BatchGetUserProfiles(
        self,
        request: pb.BatchGetUserProfilesRequest,
        context: grpc.aio.ServicerContext[
            pb.BatchGetUserProfilesRequest, pb.BatchGetUserProfilesResponse
        ],
    ) -> pb.BatchGetUserProfilesResponse:
        if len(request.user_ids) > MAX_BATCH:
            count = f"{len(request.user_ids)} ids"
            raise InvalidRequestError(Violation("user_ids", count, f"at most {MAX_BATCH:,}"))
        profiles = await self._store.profiles(request.user_ids)
        results = [
            _result(user_id, profile, f"user_ids[{index}]")
            for index, (user_id, profile) in enumerate(zip(request.user_ids, profiles, strict=True))
        ]
        return pb.BatchGetUserProfilesResponse(results=results)

    async def IngestEvents(
        self,
        request_iterator: AsyncIterator[pb.IngestEventsRequest],
        context: grpc.aio.ServicerContext[pb.IngestEventsRequest, pb.IngestEventsResponse],
    ) -> pb.IngestEventsResponse:
        answer = pb.IngestEventsResponse()
        async for request in request_iterator:
            message = await _read(request)
            check_clock(message, self._clock())
            stored = await self._store.ingest(message)
            answer.accepted_count += stored.accepted_count
            answer.duplicate_count += stored.duplicate_count
        return answer

    async def DeleteUser(
        self,
        request: pb.DeleteUserRequest,
        context: grpc.aio.ServicerContext[pb.DeleteUserRequest, pb.DeleteUserResponse],
    ) -> pb.DeleteUserResponse:
        _check_user(request.user_id, "user_id")
        return pb.DeleteUserResponse(was_known=await self._store.delete(request.user_id))


async def _read(request: pb.IngestEventsRequest) -> Message:
    """Converts a message; a long one on a thread, or readers of profiles would wait for it."""
    if len(request.events) <= MAX_ON_LOOP:
        return read_message(request)
    return await asyncio.to_thread(read_message, request)


def to_proto(profile: Profile) -> pb.UserProfile:
    """Converts a stored profile."""
    user = pb.UserProfile(
        user_id=profile.user_id,
        user_name=profile.user_name,
        time_zone=profile.time_zone,
        follower_count=profile.follower_count,
        avg_engagement=profile.avg_engagement,
        posts_by_hour=profile.posts.tolist(),
        engagements_by_hour=profile.engagements.tolist(),
        engagement_hours=peak_hours(profile.posts, profile.engagements),
        post_count=profile.post_count,
    )
    user.update_time.FromMicroseconds(profile.update_us)
    return user


def _check_user(user_id: int, field: str) -> None:
    if user_id < 1:
        raise InvalidRequestError(Violation(field, str(user_id), "at least 1"))


def _result(user_id: int, profile: Profile | None, field: str) -> pb.UserProfileResult:
    try:
        _check_user(user_id, field)
        if profile is None:
            raise NotFoundError("user", str(user_id))
    except ServingError as error:
        return pb.UserProfileResult(error=to_status(error))
    return pb.UserProfileResult(profile=to_proto(profile))
