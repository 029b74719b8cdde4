import asyncio
from collections.abc import Callable
from datetime import UTC, datetime

import grpc

from fomofeed.timing.v1 import timing_service_pb2 as pb
from fomofeed.timing.v1 import timing_service_pb2_grpc as pb_grpc
from services.timing import convert
from services.timing.advisor import Advisor, Array
from services.timing.convert import Query
from services.timing.hours import first_starts
from services.timing.suggest import evidence_of, probability_within_hour, rank_slots
from serving.errors import InvalidRequestError, ServingError, Violation, to_status
from serving.hours import hour_of_week

SERVICE_NAME = "fomofeed.timing.v1.TimingService"
MAX_BATCH = 1000  # requests in one BatchSuggestPostingTimes
Clock = Callable[[], datetime]


class TimingServicer(pb_grpc.TimingServiceServicer):
    """Answers with one advisor. `clock` tells the aware time at which a window opens by default."""

    def __init__(self, advisor: Advisor, clock: Clock = lambda: datetime.now(UTC)) -> None:
        self._advisor = advisor
        self._clock = clock

    async def SuggestPostingTimes(
        self,
        request: pb.SuggestPostingTimesRequest,
        context: grpc.aio.ServicerContext[
            pb.SuggestPostingTimesRequest, pb.SuggestPostingTimesResponse
        ],
    ) -> pb.SuggestPostingTimesResponse:
        return await self._suggest(request)

    async def BatchSuggestPostingTimes(
        self,
        request: pb.BatchSuggestPostingTimesRequest,
        context: grpc.aio.ServicerContext[
            pb.BatchSuggestPostingTimesRequest, pb.BatchSuggestPostingTimesResponse
        ],
    ) -> pb.BatchSuggestPostingTimesResponse:
        if len(request.requests) > MAX_BATCH:
            count = f"{len(request.requests)} requests"
            raise InvalidRequestError(Violation("requests", count, f"at most {MAX_BATCH:,}"))
        results = await asyncio.gather(*(self._result(one) for one in request.requests))
        return pb.BatchSuggestPostingTimesResponse(results=results)

    async def RecordPostOutcome(
        self,
        request: pb.RecordPostOutcomeRequest,
        context: grpc.aio.ServicerContext[
            pb.RecordPostOutcomeRequest, pb.RecordPostOutcomeResponse
        ],
    ) -> pb.RecordPostOutcomeResponse:
        outcome = convert.read_outcome(request)
        is_new = await self._advisor.outcomes.record(request.request_id, outcome)
        return pb.RecordPostOutcomeResponse(duplicate=not is_new)

    async def DeleteUserOutcomes(
        self,
        request: pb.DeleteUserOutcomesRequest,
        context: grpc.aio.ServicerContext[
            pb.DeleteUserOutcomesRequest, pb.DeleteUserOutcomesResponse
        ],
    ) -> pb.DeleteUserOutcomesResponse:
        if request.user_id < 1:
            raise InvalidRequestError(Violation("user_id", str(request.user_id), "at least 1"))
        count = await self._advisor.outcomes.delete(request.user_id)
        return pb.DeleteUserOutcomesResponse(deleted_count=count)

    async def _result(self, request: pb.SuggestPostingTimesRequest) -> pb.SuggestPostingTimesResult:
        try:
            return pb.SuggestPostingTimesResult(response=await self._suggest(request))
        except ServingError as error:
            return pb.SuggestPostingTimesResult(error=to_status(error))

    async def _suggest(
        self, request: pb.SuggestPostingTimesRequest
    ) -> pb.SuggestPostingTimesResponse:
        query = convert.read_query(request, self._clock())
        starts = first_starts(query.not_before, query.not_after, query.zone, query.blocked)
        if not starts:
            limit = "at least one hour of the window must be permitted"
            count = f"{len(query.blocked)} hours"
            raise InvalidRequestError(Violation("blocked_hours_of_week", count, limit))
        posts, engagements = await self._history(query)
        loaded = self._advisor.loaded
        draws = await self._advisor.draw(loaded, posts, engagements)
        slots = rank_slots(draws, starts, query.max_slots)
        hour = slots[0].hour_of_week % 24
        lifts = loaded.lifts
        post_count = float(posts.sum())
        return pb.SuggestPostingTimesResponse(
            optimal_hour_of_week=slots[0].hour_of_week,
            optimal_hour=hour,
            probability_within_hour=probability_within_hour(draws, starts, hour),
            slots=[convert.slot_to_proto(slot) for slot in slots],
            quality_lift=convert.estimate(lifts.of_quality(query.quality_score), "factor"),
            video_lift=convert.estimate(lifts.of_video(query.has_video), "factor"),
            evidence=convert.evidence_to_proto(evidence_of(post_count)),
            post_count=round(post_count),
            model=loaded.ref,
        )

    async def _history(self, query: Query) -> tuple[Array, Array]:
        """Adds the recorded outcomes, in the request's zone, to the history that it brought."""
        if not query.user_id:
            return query.posts, query.engagements
        for outcome in await self._advisor.outcomes.of_user(query.user_id):
            post_time = datetime.fromtimestamp(outcome.post_us // 1_000_000, UTC)
            hour = hour_of_week(post_time, query.zone)
            query.posts[hour] += 1.0
            query.engagements[hour] += outcome.engagements
        return query.posts, query.engagements
