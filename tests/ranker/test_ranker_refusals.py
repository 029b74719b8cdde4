"""Lists that are too long, empty, or hold what is no number: each has its answer."""

import math
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


async def test_an_empty_batch_has_no_results(ranker: Stub) -> None:  # noqa: F811
    assert not (await ranker.BatchScorePosts(pb.BatchScorePostsRequest())).results


@pytest.mark.parametrize("column", range(4))
@pytest.mark.parametrize("value", [float("nan"), float("inf"), -float("inf")])
async def test_a_candidate_with_any_feature_that_is_no_number_stands_last(
    ranker: Stub,  # noqa: F811
    column: int,
    value: float,
) -> None:
    rows = [[9.0, 0.2, 1, 0], [1.0, 0.01, 1, 0]]
    rows[0][column] = value
    answer = await ranker.RankFeed(feed(rows, explain=True))
    if answer.removed:  # endless age is too old, endlessly seen is seen
        assert [list(one.post_ids) for one in answer.removed] == [[1]]
    else:
        assert [post.post_id for post in answer.posts] == [2, 1]
        assert math.isnan(answer.posts[1].score)
        assert all(math.isnan(action.probability) for action in answer.posts[1].actions)


async def test_counts_below_zero_count_as_zero_in_a_feed(ranker: Stub) -> None:  # noqa: F811
    names = ["follower_count", "caption_length"]
    rows = [[-5.0, -100.0], [0.0, 0.0]]
    answer = await ranker.RankFeed(feed(rows, feature_names=names))
    assert answer.posts[0].score == answer.posts[1].score


async def test_candidates_that_come_twice_are_removed_once(ranker: Stub) -> None:  # noqa: F811
    request = feed([[5.0, 0.1, 1, 0]] * 4, post_ids=[7, 8, 7, 7], author_ids=[1, 2, 3, 4])
    answer = await ranker.RankFeed(request)
    assert sorted(post.post_id for post in answer.posts) == [7, 8]
    (removed,) = answer.removed
    assert (removed.filter, list(removed.post_ids)) == ("duplicate", [7, 7])


async def test_a_flood_of_names_is_refused_by_its_number(ranker: Stub) -> None:  # noqa: F811
    error = await failure(ranker.RankFeed(feed([], feature_names=["seen"] * 200_000)))
    assert error.details() == "feature_names is 200,000 names, at most 14"
    weights = pb.Weights(actions={f"love {n}": 1.0 for n in range(50_000)})
    error = await failure(ranker.RankFeed(feed([], weights=weights)))
    assert error.code() is grpc.StatusCode.INVALID_ARGUMENT
    assert (error.details() or "").count("weights.actions is 'love ") == 16
