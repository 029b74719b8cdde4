"""Fake model services: honest answers by default, trouble on demand, a memory of what they got."""

import asyncio
from collections.abc import Awaitable, Callable, Iterable
from dataclasses import dataclass, field
from typing import Any

import grpc

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
from serving.errors import ServingError, to_status
from serving.request import current

TUESDAY_19 = 24 + 19  # hour of the week, Monday 00:00 first
MODEL = type_pb2.ModelRef(model="fake", version="1")


@dataclass
class Fake:
    """One method: `answer` may be replaced, `delay_s` and `error` are trouble."""

    answer: Callable[[Any], Any]
    delay_s: float = 0.0
    error: Exception | None = None
    model: type_pb2.ModelRef = field(default_factory=lambda: MODEL)
    requests: list[Any] = field(default_factory=list)
    batches: list[int] = field(default_factory=list)  # requests of each batch call
    tenants: list[str] = field(default_factory=list)
    left_s: list[float] = field(default_factory=list)
    started: asyncio.Event = field(default_factory=asyncio.Event)
    cancelled: asyncio.Event = field(default_factory=asyncio.Event)

    async def __call__(self, request: Any, context: grpc.aio.ServicerContext[Any, Any]) -> Any:
        self.requests.append(request)
        self.tenants.append(current().tenant)
        self.left_s.append(current().left_s())
        self.started.set()
        try:
            await asyncio.sleep(self.delay_s)
        except asyncio.CancelledError:
            self.cancelled.set()
            raise
        if self.error is not None:
            raise self.error
        current().ledger.model = self.model
        return self.answer(request)

    async def results(
        self, requests: Iterable[Any], context: grpc.aio.ServicerContext[Any, Any], result: Any
    ) -> list[Any]:
        """Answers a batch: `result(response=...)` or `result(error=...)` for each request."""
        items = list(requests)
        self.batches.append(len(items))

        async def one(request: Any) -> Any:
            try:
                return result(response=await self(request, context))
            except ServingError as error:
                return result(error=to_status(error))

        return await asyncio.gather(*(one(item) for item in items))


def profile(request: profile_pb.GetUserProfileRequest) -> profile_pb.GetUserProfileResponse:
    """A creator from São Paulo whose followers react on Tuesdays at 19:00."""
    posts, engagements = [1.0] * 168, [1.0] * 168
    engagements[TUESDAY_19] = 50.0
    return profile_pb.GetUserProfileResponse(
        user=profile_pb.UserProfile(
            user_id=request.user_id,
            user_name="Ana",
            time_zone="America/Sao_Paulo",
            follower_count=2500,
            avg_engagement=0.06,
            posts_by_hour=posts,
            engagements_by_hour=engagements,
        )
    )


def clip(request: clip_pb.AnalyzeImageRequest) -> clip_pb.AnalyzeImageResponse:
    tags = [clip_pb.Tag(label="beach", probability=0.9, source="fake")]
    return clip_pb.AnalyzeImageResponse(quality_score=7.5, tags=tags, model=MODEL)


def timing(
    request: timing_pb.SuggestPostingTimesRequest,
) -> timing_pb.SuggestPostingTimesResponse:
    """The hour with the most engagements a post."""
    shown = zip(request.engagements_by_hour, request.posts_by_hour, strict=True)
    rates = [seen / posts for seen, posts in shown] or [0.0]
    best = rates.index(max(rates))
    return timing_pb.SuggestPostingTimesResponse(
        optimal_hour_of_week=best, optimal_hour=best % 24, model=MODEL
    )


def rank(request: ranker_pb.ScorePostRequest) -> ranker_pb.ScorePostResponse:
    score = 40 + 4 * request.quality_score
    reach = type_pb2.Estimate(p10=500, p50=780, p90=1200, unit="accounts")
    return ranker_pb.ScorePostResponse(
        engagement_score=score, reach=reach, confidence=0.8, model=MODEL
    )


def caption(request: text_pb.GenerateCaptionRequest) -> text_pb.GenerateCaptionResponse:
    text = " ".join([request.draft, *(f"#{tag}" for tag in request.image_tags)])
    return text_pb.GenerateCaptionResponse(caption=text, model=MODEL)


def notification(
    request: text_pb.GenerateNotificationRequest,
) -> text_pb.GenerateNotificationResponse:
    text = f"{request.user_name} {request.optimal_hour}"
    return text_pb.GenerateNotificationResponse(notification=text, model=MODEL)


def moderate(
    request: moderation_pb.ModerateContentRequest,
) -> moderation_pb.ModerateContentResponse:
    return moderation_pb.ModerateContentResponse(
        decision=moderation_pb.DECISION_ALLOW, risk=0.1, policy="fake"
    )


class FakeServices:
    """All services of the analyze graph, one `Fake` for each of its nodes."""

    def __init__(self) -> None:
        self.profile, self.clip = Fake(profile), Fake(clip)
        self.timing, self.ranker = Fake(timing), Fake(rank)
        self.caption, self.notification = Fake(caption), Fake(notification)
        self.moderation = Fake(moderate)

    def mounts(self) -> dict[str, tuple[Callable[..., None], Any]]:
        """By service name: what `running` takes."""
        return {
            "fomofeed.profile.v1.ProfileService": _mount(
                profile_grpc,
                "ProfileService",
                GetUserProfile=self.profile,
                BatchGetUserProfiles=_profiles(self.profile),
            ),
            "fomofeed.clip.v1.ClipService": _mount(
                clip_grpc,
                "ClipService",
                AnalyzeImage=self.clip,
                BatchAnalyzeImages=_batch(self.clip, clip_pb, "AnalyzeImage"),
            ),
            "fomofeed.timing.v1.TimingService": _mount(
                timing_grpc,
                "TimingService",
                SuggestPostingTimes=self.timing,
                BatchSuggestPostingTimes=_batch(self.timing, timing_pb, "SuggestPostingTimes"),
            ),
            "fomofeed.ranker.v1.RankerService": _mount(
                ranker_grpc,
                "RankerService",
                ScorePost=self.ranker,
                BatchScorePosts=_batch(self.ranker, ranker_pb, "ScorePost"),
            ),
            "fomofeed.text.v1.TextService": _mount(
                text_grpc,
                "TextService",
                GenerateCaption=self.caption,
                GenerateNotification=self.notification,
                BatchGenerateCaptions=_batch(self.caption, text_pb, "GenerateCaption"),
                BatchGenerateNotifications=_batch(
                    self.notification, text_pb, "GenerateNotification"
                ),
            ),
            "fomofeed.moderation.v1.ModerationService": _mount(
                moderation_grpc, "ModerationService", ModerateContent=self.moderation
            ),
        }


Method = Callable[[Any, grpc.aio.ServicerContext[Any, Any]], Awaitable[Any]]


def _batch(fake: Fake, module: Any, method: str) -> Method:
    response = getattr(module, f"Batch{method.removesuffix('s')}sResponse")
    result = getattr(module, f"{method}Result")

    async def batch(request: Any, context: grpc.aio.ServicerContext[Any, Any]) -> Any:
        return response(results=await fake.results(request.requests, context, result))

    return batch


def _profiles(fake: Fake) -> Method:
    """The one batch that repeats a field of the request instead of the request."""

    def result(response: Any = None, error: Any = None) -> profile_pb.UserProfileResult:
        profile = None if response is None else response.user
        return profile_pb.UserProfileResult(profile=profile, error=error)

    async def batch(request: Any, context: grpc.aio.ServicerContext[Any, Any]) -> Any:
        requests = [profile_pb.GetUserProfileRequest(user_id=one) for one in request.user_ids]
        results = await fake.results(requests, context, result)
        return profile_pb.BatchGetUserProfilesResponse(results=results)

    return batch


def _mount(module: Any, service: str, **fakes: Method) -> tuple[Callable[..., None], Any]:
    """What adds a servicer to a server, and one whose methods are `fakes`."""
    servicer = getattr(module, f"{service}Servicer")
    methods = {name: _method(fake) for name, fake in fakes.items()}
    fake_one = type(servicer.__name__, (servicer,), methods)()
    return getattr(module, f"add_{service}Servicer_to_server"), fake_one


def _method(fake: Method) -> Callable[..., Any]:
    async def method(_: Any, request: Any, context: grpc.aio.ServicerContext[Any, Any]) -> Any:
        return await fake(request, context)

    return method
