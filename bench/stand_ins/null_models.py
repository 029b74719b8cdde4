"""Every service of the analyze graph with models that cost nothing.

`python -m bench.stand_ins.null_models` is one process with one port, which it prints. What a caller
of it measures is the way there and back.
"""

import asyncio
import sys
from collections.abc import Awaitable, Callable, Iterable, Mapping
from typing import Any

import grpc
from google.protobuf.message import Message

from fomofeed.clip.v1 import clip_service_pb2 as clip_pb
from fomofeed.clip.v1 import clip_service_pb2_grpc as clip_grpc
from fomofeed.moderation.v1 import moderation_service_pb2 as moderation_pb
from fomofeed.moderation.v1 import moderation_service_pb2_grpc as moderation_grpc
from fomofeed.profile.v1 import profile_service_pb2 as profile_pb
from fomofeed.profile.v1 import profile_service_pb2_grpc as profile_grpc
from fomofeed.ranker.v1 import ranker_service_pb2 as ranker_pb
from fomofeed.ranker.v1 import ranker_service_pb2_grpc as ranker_grpc
from fomofeed.text.v1 import text_service_pb2 as text_pb
from fomofeed.text.v1 import text_service_pb2_grpc as text_grpc
from fomofeed.timing.v1 import timing_service_pb2 as timing_pb
from fomofeed.timing.v1 import timing_service_pb2_grpc as timing_grpc
from fomofeed.type.v1 import type_pb2
from serving.rpc.lifecycle import Phase
from serving.rpc.server import Server, ServerConfig

MODEL = type_pb2.ModelRef(model="null", version="1")
SERVICES = (
    "fomofeed.profile.v1.ProfileService",
    "fomofeed.clip.v1.ClipService",
    "fomofeed.timing.v1.TimingService",
    "fomofeed.ranker.v1.RankerService",
    "fomofeed.text.v1.TextService",
    "fomofeed.moderation.v1.ModerationService",
)
WEEK = [1.0] * 168
USER = profile_pb.UserProfile(
    user_id=1, user_name="Ana", follower_count=2500, posts_by_hour=WEEK, engagements_by_hour=WEEK
)
TAGS = [clip_pb.Tag(label=label, probability=0.5) for label in ("beach", "sea", "sun")]
PROFILE = profile_pb.GetUserProfileResponse(user=USER)
IMAGE = clip_pb.AnalyzeImageResponse(quality_score=7.5, tags=TAGS, model=MODEL)
TIMES = timing_pb.SuggestPostingTimesResponse(optimal_hour_of_week=43, optimal_hour=19, model=MODEL)
SCORE = ranker_pb.ScorePostResponse(
    engagement_score=70,
    reach=type_pb2.Estimate(p10=500, p50=780, p90=1200, unit="accounts"),
    confidence=0.8,
    model=MODEL,
)
CAPTION = text_pb.GenerateCaptionResponse(caption="A day at the sea", model=MODEL)
NOTIFICATION = text_pb.GenerateNotificationResponse(notification="Post at 19:00", model=MODEL)
VERDICT = moderation_pb.ModerateContentResponse(
    decision=moderation_pb.DECISION_ALLOW, risk=0.1, policy="null"
)
ANSWERS: Mapping[str, Message] = {
    "profile": PROFILE,
    "clip": IMAGE,
    "timing": TIMES,
    "ranker": SCORE,
    "caption": CAPTION,
    "notification": NOTIFICATION,
    "moderation": VERDICT,
}  # by node

Method = Callable[[Any, Any, grpc.aio.ServicerContext[Any, Any]], Awaitable[Any]]


def always(answer: Any) -> Method:
    """A method that knows its answer."""

    async def method(_: Any, request: Any, context: grpc.aio.ServicerContext[Any, Any]) -> Any:
        return answer

    return method


def batch(response: type[Any], result: Any, items: str = "requests") -> Method:
    """A method that gives `result` once for each item."""

    async def method(_: Any, request: Any, context: grpc.aio.ServicerContext[Any, Any]) -> Any:
        return response(results=[result] * len(getattr(request, items)))

    return method


async def echo(_: Any, request: Any, context: grpc.aio.ServicerContext[Any, Any]) -> Any:
    """A caption like its draft: were all alike, notifications would be computed once for all."""
    return text_pb.GenerateCaptionResponse(caption=request.draft, model=MODEL)


async def echoes(_: Any, request: Any, context: grpc.aio.ServicerContext[Any, Any]) -> Any:
    answers = (
        text_pb.GenerateCaptionResponse(caption=one.draft, model=MODEL) for one in request.requests
    )
    results = [text_pb.GenerateCaptionResult(response=answer) for answer in answers]
    return text_pb.BatchGenerateCaptionsResponse(results=results)


def servicer(kind: type[Any], **methods: Method) -> Any:
    """A servicer with these methods."""
    return type("Null", (kind,), methods)()


def mounts() -> Iterable[tuple[Callable[..., None], Any]]:
    """Every servicer with what adds it to a server."""
    yield (
        profile_grpc.add_ProfileServiceServicer_to_server,
        servicer(
            profile_grpc.ProfileServiceServicer,
            GetUserProfile=always(PROFILE),
            BatchGetUserProfiles=batch(
                profile_pb.BatchGetUserProfilesResponse,
                profile_pb.UserProfileResult(profile=USER),
                "user_ids",
            ),
        ),
    )
    yield (
        clip_grpc.add_ClipServiceServicer_to_server,
        servicer(
            clip_grpc.ClipServiceServicer,
            AnalyzeImage=always(IMAGE),
            BatchAnalyzeImages=batch(
                clip_pb.BatchAnalyzeImagesResponse, clip_pb.AnalyzeImageResult(response=IMAGE)
            ),
        ),
    )
    yield (
        timing_grpc.add_TimingServiceServicer_to_server,
        servicer(
            timing_grpc.TimingServiceServicer,
            SuggestPostingTimes=always(TIMES),
            BatchSuggestPostingTimes=batch(
                timing_pb.BatchSuggestPostingTimesResponse,
                timing_pb.SuggestPostingTimesResult(response=TIMES),
            ),
        ),
    )
    yield (
        ranker_grpc.add_RankerServiceServicer_to_server,
        servicer(
            ranker_grpc.RankerServiceServicer,
            ScorePost=always(SCORE),
            BatchScorePosts=batch(
                ranker_pb.BatchScorePostsResponse, ranker_pb.ScorePostResult(response=SCORE)
            ),
        ),
    )
    yield from _mounts_of_words()


def _mounts_of_words() -> Iterable[tuple[Callable[..., None], Any]]:
    yield (
        text_grpc.add_TextServiceServicer_to_server,
        servicer(
            text_grpc.TextServiceServicer,
            GenerateCaption=echo,
            GenerateNotification=always(NOTIFICATION),
            BatchGenerateCaptions=echoes,
            BatchGenerateNotifications=batch(
                text_pb.BatchGenerateNotificationsResponse,
                text_pb.GenerateNotificationResult(response=NOTIFICATION),
            ),
        ),
    )
    yield (
        moderation_grpc.add_ModerationServiceServicer_to_server,
        servicer(moderation_grpc.ModerationServiceServicer, ModerateContent=always(VERDICT)),
    )


async def serve() -> None:
    """Serves on a free port until standard input ends."""
    stop = asyncio.Event()
    config = ServerConfig(metrics_port=None, lame_duck_s=0.0)
    async with Server(config, "null", SERVICES) as server:
        for add_to_server, one in mounts():
            server.mount(add_to_server, one)
        serving = asyncio.create_task(server.serve(stop))
        await server.entered(Phase.SERVING)
        print(server.port, flush=True)
        await asyncio.to_thread(sys.stdin.read)
        stop.set()
        await serving


if __name__ == "__main__":
    asyncio.run(serve())
