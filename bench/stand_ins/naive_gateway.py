"""The analyze graph as one would write it first: stubs, `asyncio.gather`, and no thought of load.

`python -m bench.stand_ins.naive_gateway TARGET` serves Orchestrate before the models at TARGET on a
port that it prints, until standard input ends. It passes no deadline on and has no limit, no retry,
no substitute: what fails, fails the call. gRPC itself cancels what runs for a caller who has gone.
"""

import asyncio
import sys

import grpc

from fomofeed.clip.v1 import clip_service_pb2 as clip_pb
from fomofeed.clip.v1 import clip_service_pb2_grpc as clip_grpc
from fomofeed.gateway.v1 import orchestrator_service_pb2 as pb
from fomofeed.gateway.v1 import orchestrator_service_pb2_grpc as pb_grpc
from fomofeed.profile.v1 import profile_service_pb2 as profile_pb
from fomofeed.profile.v1 import profile_service_pb2_grpc as profile_grpc
from fomofeed.ranker.v1 import ranker_service_pb2 as ranker_pb
from fomofeed.ranker.v1 import ranker_service_pb2_grpc as ranker_grpc
from fomofeed.text.v1 import text_service_pb2 as text_pb
from fomofeed.text.v1 import text_service_pb2_grpc as text_grpc
from fomofeed.timing.v1 import timing_service_pb2 as timing_pb
from fomofeed.timing.v1 import timing_service_pb2_grpc as timing_grpc

Context = grpc.aio.ServicerContext[pb.OrchestrateRequest, pb.OrchestrateResponse]


class NaiveGateway(pb_grpc.OrchestratorServiceServicer):
    """Fans out and waits."""

    def __init__(self, channel: grpc.aio.Channel) -> None:
        self._profile = profile_grpc.ProfileServiceStub(channel)
        self._clip = clip_grpc.ClipServiceStub(channel)
        self._timing = timing_grpc.TimingServiceStub(channel)
        self._ranker = ranker_grpc.RankerServiceStub(channel)
        self._text = text_grpc.TextServiceStub(channel)

    async def Orchestrate(
        self, request: pb.OrchestrateRequest, context: Context
    ) -> pb.OrchestrateResponse:
        profile, image = await asyncio.gather(
            self._profile.GetUserProfile(profile_pb.GetUserProfileRequest(user_id=request.user_id)),
            self._clip.AnalyzeImage(clip_pb.AnalyzeImageRequest(image=request.media)),
        )
        user, quality = profile.user, image.quality_score
        tags = [tag.label for tag in image.tags]
        timing, caption = await asyncio.gather(
            self._timing.SuggestPostingTimes(
                timing_pb.SuggestPostingTimesRequest(
                    user_id=request.user_id,
                    posts_by_hour=user.posts_by_hour,
                    engagements_by_hour=user.engagements_by_hour,
                    quality_score=quality,
                )
            ),
            self._text.GenerateCaption(
                text_pb.GenerateCaptionRequest(draft=request.caption, image_tags=tags)
            ),
        )
        score = await self._ranker.ScorePost(
            ranker_pb.ScorePostRequest(
                user_id=request.user_id,
                quality_score=quality,
                hour_of_week=timing.optimal_hour_of_week,
                follower_count=user.follower_count,
            )
        )
        note = await self._text.GenerateNotification(
            text_pb.GenerateNotificationRequest(
                user_name=user.user_name, optimal_hour=timing.optimal_hour, caption=caption.caption
            )
        )
        return pb.OrchestrateResponse(
            optimal_time=timing.optimal_hour,
            engagement_score=score.engagement_score,
            confidence=score.confidence,
            suggested_caption=caption.caption,
            notification=note.notification,
        )


async def serve(target: str) -> None:
    """Serves until standard input ends."""
    async with grpc.aio.insecure_channel(target) as channel:
        server = grpc.aio.server()
        naive = NaiveGateway(channel)  # type: ignore[abstract]  # it has one method only
        pb_grpc.add_OrchestratorServiceServicer_to_server(naive, server)
        port = server.add_insecure_port("127.0.0.1:0")
        await server.start()
        print(port, flush=True)
        await asyncio.to_thread(sys.stdin.read)
        await server.stop(0)


if __name__ == "__main__":
    asyncio.run(serve(sys.argv[1]))
