"""Lists that are too long, empty, or hold what is no number: each has its answer."""

from typing import Any

import grpc
import numpy as np
import pytest

from fomofeed.ranker.v1 import ranker_service_pb2 as pb
from tests.ranker.test_ranker_server import Stub, failure, feed, ranker  # noqa: F401  # a fixture

MILLION = 1_000_000


async def test_a_million_candidates_are_refused_by_their_number(ranker: Stub) -> None:  # noqa: F811
    request = feed([], post_ids=range(MILLION), author_ids=range(MILLION))
    request.features = np.zeros((MILLION, 4), "<f4").tobytes()
    error = await failure(ranker.RankFeed(request))
    assert error.code() is grpc.StatusCode.INVALID_ARGUMENT
    assert "post_ids is 1,000,000 posts, at most 10,000" in error.details()


async def test_no_candidates_make_an_empty_page(ranker: Stub) -> None:  # noqa: F811
    answer = await ranker.RankFeed(feed([]))
    assert (len(answer.posts), len(answer.post_ids), len(answer.removed)) == (0, 0, 0)


async def test_a_thousand_and_one_drafts_are_refused(ranker: Stub) -> None:  # noqa: F811
    batch = pb.BatchScorePostsRequest(requests=[pb.ScorePostRequest()] * 1001)
    error = await failure(ranker.BatchScorePosts(batch))
    assert error.code() is grpc.StatusCode.INVALID_ARGUMENT
    assert error.details() == "requests is 1001 requests, at most 1,000"


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"quality_score": float("inf")}, "quality_score is inf, 0 to 10"),
        ({"quality_score": -0.1}, "quality_score is -0.1, 0 to 10"),
        ({"avg_engagement": float("nan")}, "avg_engagement is nan, 0 to 1"),
        ({"follower_count": 10**13}, "follower_count is 10000000000000, 0 to"),
        ({"hour_of_week": 2**31 - 1}, "hour_of_week is 2147483647, 0 to 167"),
    ],
)
async def test_numbers_out_of_range_are_named(
    ranker: Stub,  # noqa: F811
    fields: dict[str, Any],
    message: str,
) -> None:
    error = await failure(ranker.ScorePost(pb.ScorePostRequest(**fields)))
    assert error.code() is grpc.StatusCode.INVALID_ARGUMENT
    assert error.details().startswith(message)
