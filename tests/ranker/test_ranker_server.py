import asyncio
import math
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import grpc
import numpy as np
import pytest

from fomofeed.ranker.v1 import ranker_service_pb2 as pb
from fomofeed.ranker.v1 import ranker_service_pb2_grpc as pb_grpc
from services.ranker.scorer import Scorer
from services.ranker.servicer import RankerServicer
from services.ranker.weights import read_profiles

Stub = Any  # the generated stub: its type is only known to the checker
NAMES = ["quality_score", "avg_engagement", "age_hours", "seen"]
WHOLE = {
    "user_id": 12,
    "quality_score": 7.2,
    "hour_of_week": 43,
    "follower_count": 18400,
    "avg_engagement": 0.0678,
    "content_type": "post",
    "caption": "Golden hour",
    "tags": ["travel"],
}


@pytest.fixture
async def ranker(serving_on: Any, scorer: Scorer) -> AsyncIterator[Stub]:
    servicer = RankerServicer(scorer, read_profiles(Path("services/ranker/weights.yaml")))
    running = await serving_on([(pb_grpc.add_RankerServiceServicer_to_server, servicer)])
    yield pb_grpc.RankerServiceStub(running.channel)


def draft(**changes: Any) -> pb.ScorePostRequest:
    return pb.ScorePostRequest(**{**WHOLE, **changes})


def feed(rows: list[list[float]], **changes: Any) -> pb.RankFeedRequest:
    count = len(rows)
    fields = {
        "post_ids": range(1, count + 1),
        "author_ids": range(1, count + 1),
        "feature_names": NAMES,
        "features": np.array(rows, dtype="<f4").tobytes(),
        "page_size": 100,
    }
    return pb.RankFeedRequest(**{**fields, **changes})


async def failure(call: Any) -> grpc.aio.AioRpcError:
    with pytest.raises(grpc.aio.AioRpcError) as caught:
        await call
    return caught.value


async def test_a_draft_is_scored_with_interval_reasons_and_confidence(ranker: Stub) -> None:
    answer = await ranker.ScorePost(draft())
    assert 0 <= answer.engagement_score <= 100
    assert 0 < answer.reach.p10 < answer.reach.p50 < answer.reach.p90
    assert answer.reach.unit == "accounts"
    assert [action.action for action in answer.actions] == ["like", "comment", "share", "follow"]
    assert 0.3 < answer.confidence < 0.95
    assert answer.model.trained_on == "simulator"
    assert answer.model.experimental


async def test_contributions_sum_to_the_distance_from_the_average_post(ranker: Stub) -> None:
    answers = [await ranker.ScorePost(draft(quality_score=score)) for score in (1.0, 5.0, 9.0)]
    bases = [a.engagement_score - sum(c.effect for c in a.contributions) for a in answers]
    assert bases == pytest.approx([bases[0]] * 3, abs=0.05)
    effects = [a.contributions[0].effect for a in answers]
    assert effects == sorted(effects)


async def test_an_unknown_input_is_named_and_costs_confidence(ranker: Stub) -> None:
    whole = await ranker.ScorePost(draft())
    request = draft()
    request.ClearField("quality_score")
    without = await ranker.ScorePost(request)
    assert without.confidence < whole.confidence
    assert without.contributions[0].feature == "quality_score_unknown"


async def test_an_hour_of_zero_is_monday_midnight_and_not_unknown(ranker: Stub) -> None:
    request = draft()
    request.ClearField("hour_of_week")
    unknown = await ranker.ScorePost(request)
    assert (await ranker.ScorePost(draft(hour_of_week=0))) != unknown


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"user_id": -1}, "user_id is -1, at least 0"),
        ({"quality_score": float("nan")}, "quality_score is nan, 0 to 10"),
        ({"quality_score": 10.1}, "quality_score is 10.1, 0 to 10"),
        ({"hour_of_week": 168}, "hour_of_week is 168, 0 to 167"),
        ({"hour_of_week": -1}, "hour_of_week is -1, 0 to 167"),
        ({"follower_count": -1}, "follower_count is -1, 0 to 1,000,000,000,000"),
        ({"avg_engagement": 1.5}, "avg_engagement is 1.5, 0 to 1"),
        ({"content_type": "story"}, "content_type is 'story', one of post, moment, or empty"),
        ({"caption": "x" * 5001}, "caption is 5,001 characters, at most 5,000 characters"),
        ({"tags": ["a"] * 101}, "tags is 101 tags, at most 100"),
    ],
)
async def test_bad_drafts_name_field_value_and_limit(
    ranker: Stub, fields: dict[str, Any], message: str
) -> None:
    error = await failure(ranker.ScorePost(draft(**fields)))
    assert (error.code(), error.details()) == (grpc.StatusCode.INVALID_ARGUMENT, message)


async def test_others_have_their_turn_while_long_captions_are_read(scorer: Scorer) -> None:
    servicer = RankerServicer(scorer, read_profiles(Path("services/ranker/weights.yaml")))
    long = pb.BatchScorePostsRequest(requests=[draft(caption="a.b " * 1250)] * 200)
    context: Any = None
    batch = asyncio.create_task(servicer.BatchScorePosts(long, context))
    turns = 0
    while not batch.done():
        await asyncio.sleep(0)
        turns += 1
    assert len((await batch).results) == 200
    assert turns >= 40  # of a million characters, twenty thousand at once


async def test_one_bad_draft_of_a_batch_fails_alone(ranker: Stub) -> None:
    batch = pb.BatchScorePostsRequest(requests=[draft(), draft(user_id=-1), draft(has_video=True)])
    first, bad, last = (await ranker.BatchScorePosts(batch)).results
    assert bad.error.message == "user_id is -1, at least 0"
    for result, alone in ((first, draft()), (last, draft(has_video=True))):
        expected = (await ranker.ScorePost(alone)).engagement_score
        assert result.response.engagement_score == pytest.approx(expected, abs=1e-3)


async def test_an_empty_batch_has_an_empty_answer(ranker: Stub) -> None:
    assert not (await ranker.BatchScorePosts(pb.BatchScorePostsRequest())).results
    assert not (await ranker.RankFeed(pb.RankFeedRequest())).posts


async def test_better_posts_come_first_and_broken_ones_last(ranker: Stub) -> None:
    rows = [[2.0, 0.05, 1, 0], [float("nan"), 0.05, 1, 0], [9.0, 0.1, 1, 0]]
    posts = (await ranker.RankFeed(feed(rows))).posts
    assert [post.post_id for post in posts] == [3, 1, 2]
    assert math.isnan(posts[2].score)


async def test_filters_tell_what_they_removed_and_why(ranker: Stub) -> None:
    rows = [[5.0, 0.1, 1, 0], [5.0, 0.1, 49, 0], [5.0, 0.1, 1, 1], [5.0, 0.1, 60, 1]]
    answer = await ranker.RankFeed(feed(rows, post_ids=[1, 2, 3, 1]))
    assert [post.post_id for post in answer.posts] == [1]
    removed = {one.filter: (one.reason, list(one.post_ids)) for one in answer.removed}
    assert removed == {
        "duplicate": ("the same post id came before", [1]),
        "too_old": ("age_hours is above 48", [2]),
        "seen": ("seen is set", [3]),
    }


async def test_explained_posts_say_what_moved_them(ranker: Stub) -> None:
    rows = [[5.0, 0.1, 1, 0]] * 3
    request = feed(rows, author_ids=[7, 7, 8], in_network=[True, True, False], explain=True)
    plain = await ranker.RankFeed(feed(rows, author_ids=[7, 7, 8], in_network=[True, True, False]))
    answer = await ranker.RankFeed(request)
    assert not plain.posts[0].adjustments
    by_id = {post.post_id: post for post in answer.posts}
    assert by_id[3].adjustments[0].factor == 0.75
    factors = sorted(by_id[post].adjustments[1].factor for post in (1, 2))
    assert factors == [0.625, 1.0]
    ranks = [post.adjustments[1].rank_after for post in answer.posts]
    assert ranks == [0, 1, 2]
    assert len(by_id[1].actions) == 4


async def test_a_score_does_not_depend_on_the_other_candidates(ranker: Stub) -> None:
    rng = np.random.default_rng(1)
    rows = np.column_stack(
        [rng.uniform(0, 10, 5000), rng.uniform(0, 0.2, 5000), np.ones(5000), np.zeros(5000)]
    ).tolist()
    together = {post.post_id: post.score for post in (await ranker.RankFeed(feed(rows))).posts}
    for post_id, score in list(together.items())[:5]:
        alone = await ranker.RankFeed(feed([rows[post_id - 1]]))
        assert alone.posts[0].score == pytest.approx(score, rel=1e-5)


async def test_columns_hold_the_same_page_as_posts(ranker: Stub) -> None:
    rows = [[2.0, 0.05, 1, 0], [float("nan"), 0.05, 1, 0], [9.0, 0.1, 1, 0]]
    posts = (await ranker.RankFeed(feed(rows))).posts
    answer = await ranker.RankFeed(feed(rows, as_columns=True))
    assert list(answer.post_ids) == [post.post_id for post in posts]
    assert answer.scores[:2] == [post.score for post in posts[:2]]
    assert math.isnan(answer.scores[2])
    assert not answer.posts


async def test_same_seed_same_order_and_pages_cut_it(ranker: Stub) -> None:
    rows = [[5.0, 0.1, 1, 0]] * 30
    orders = [
        [p.post_id for p in (await ranker.RankFeed(feed(rows, seed=seed))).posts]
        for seed in (1, 1, 2)
    ]
    assert orders[0] == orders[1] != orders[2]
    page = (await ranker.RankFeed(feed(rows, seed=1, page_size=7))).posts
    assert [post.post_id for post in page] == orders[0][:7]


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"author_ids": [1]}, "author_ids is 1 ids, 2, as post_ids"),
        ({"in_network": [True]}, "in_network is 1 flags, 2, as post_ids, or none"),
        ({"feature_names": ["love"]}, "feature_names[0] is 'love', one of quality_score"),
        ({"feature_names": ["seen", "seen"]}, "feature_names[1] is 'seen', each name once"),
        ({"features": b"123"}, "features is 3 bytes, 32 bytes: float32, 2 rows of 4 columns"),
        ({"page_size": -1}, "page_size is -1, 0 to 10,000"),
        ({"weight_profile": "mine"}, "weight_profile is 'mine', one of default, reach"),
        ({"post_ids": range(10_001)}, "post_ids is 10,001 posts, at most 10,000"),
        ({"viewer_id": -3}, "viewer_id is -3, at least 0"),
        ({"explain": True, "as_columns": True}, "explain is set beside as_columns, one of the two"),
    ],
)
async def test_bad_feeds_name_field_value_and_limit(
    ranker: Stub, changes: dict[str, Any], message: str
) -> None:
    error = await failure(ranker.RankFeed(feed([[5.0, 0.1, 1, 0]] * 2, **changes)))
    assert error.code() is grpc.StatusCode.INVALID_ARGUMENT
    assert message in error.details()
