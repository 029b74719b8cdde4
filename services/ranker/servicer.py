import asyncio
from collections.abc import Mapping, Sequence

import grpc
import numpy as np
from google.rpc import status_pb2

from fomofeed.ranker.v1 import ranker_service_pb2 as pb
from fomofeed.ranker.v1 import ranker_service_pb2_grpc as pb_grpc
from services.ranker import posts
from services.ranker.candidates import filtered, read_candidates
from services.ranker.pages import to_response
from services.ranker.ranking import rank, tie_break
from services.ranker.scorer import Scorer
from services.ranker.weights import WeightProfile
from serving.errors import (
    MAX_TEXT,
    InvalidRequestError,
    ServingError,
    Violation,
    to_status,
)

SERVICE_NAME = "fomofeed.ranker.v1.RankerService"
MAX_BATCH = 1000  # requests in one BatchScorePosts
DEFAULT_PROFILE = "default"
_CHARS_AT_ONCE = 20_000  # of captions: 2 ms of prose, 12 ms of the worst text there is


class RankerServicer(pb_grpc.RankerServiceServicer):
    """Answers with one scorer and the weight profiles of this server."""

    def __init__(self, scorer: Scorer, profiles: Mapping[str, WeightProfile]) -> None:
        self._scorer = scorer
        self._profiles = profiles
        self._writer = posts.Writer()

    async def ScorePost(
        self,
        request: pb.ScorePostRequest,
        context: grpc.aio.ServicerContext[pb.ScorePostRequest, pb.ScorePostResponse],
    ) -> pb.ScorePostResponse:
        posts.check(request)
        inputs = posts.inputs_of(request)
        found = await self._scorer.predict(posts.by_name([inputs]), 1)
        response = pb.ScorePostResponse()
        self._writer.write(found, [inputs], [response])
        return response

    async def BatchScorePosts(
        self,
        request: pb.BatchScorePostsRequest,
        context: grpc.aio.ServicerContext[pb.BatchScorePostsRequest, pb.BatchScorePostsResponse],
    ) -> pb.BatchScorePostsResponse:
        if len(request.requests) > MAX_BATCH:
            count = f"{len(request.requests)} requests"
            raise InvalidRequestError(Violation("requests", count, f"at most {MAX_BATCH:,}"))
        errors = [_error(one) for one in request.requests]
        good = [r for r, error in zip(request.requests, errors, strict=True) if error is None]
        inputs = await _inputs_of(good)
        found = await self._scorer.predict(posts.by_name(inputs), len(inputs))
        results = [pb.ScorePostResult(error=error) for error in errors]
        response = pb.BatchScorePostsResponse(results=results)
        told = (r for r, error in zip(response.results, errors, strict=True) if error is None)
        self._writer.write(found, inputs, (result.response for result in told))
        return response

    async def RankFeed(
        self,
        request: pb.RankFeedRequest,
        context: grpc.aio.ServicerContext[pb.RankFeedRequest, pb.RankFeedResponse],
    ) -> pb.RankFeedResponse:
        profile = self._profile(request.weight_profile).changed(request.weights)
        candidates, removed = filtered(read_candidates(request), profile)
        found = await self._scorer.actions(candidates.features(), len(candidates))
        found.rates[~candidates.is_finite()] = np.nan  # also for what the filters alone read
        values = found.rates @ np.array(profile.actions)
        ties = tie_break(candidates.post_ids, request.viewer_id, request.seed)
        ranking = rank(
            values,
            candidates.author_ids,
            candidates.in_network,
            profile,
            ties,
            np.array(request.shown_author_ids, dtype=np.int64),
            explains=request.explain,
        )
        return to_response(request, candidates, removed, ranking, found, profile)

    def _profile(self, name: str) -> WeightProfile:
        profile = self._profiles.get(name or DEFAULT_PROFILE)
        if profile is None:
            known = f"one of {', '.join(sorted(self._profiles))}"
            raise InvalidRequestError(Violation("weight_profile", repr(name[:MAX_TEXT]), known))
        return profile


async def _inputs_of(requests: Sequence[pb.ScorePostRequest]) -> list[list[float]]:
    """Reads checked requests and lets other calls in between: long captions take milliseconds."""
    inputs, chars = [], 0
    for request in requests:
        inputs.append(posts.inputs_of(request))
        chars += len(request.caption)
        if chars > _CHARS_AT_ONCE:
            chars = 0
            await asyncio.sleep(0)
    return inputs


def _error(request: pb.ScorePostRequest) -> status_pb2.Status | None:
    try:
        posts.check(request)
    except ServingError as error:
        return to_status(error)
    return None
