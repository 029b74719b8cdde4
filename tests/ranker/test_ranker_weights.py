"""Weights of one request: what is set stands instead of the profile's, within its range."""

from pathlib import Path
from typing import Any

import grpc
import pytest

from fomofeed.ranker.v1 import ranker_service_pb2 as pb
from services.ranker.heads import ACTIONS
from services.ranker.weights import read_profiles
from tests.ranker.test_ranker_server import Stub, failure, feed, ranker  # noqa: F401  # a fixture

DEFAULT = read_profiles(Path("services/ranker/weights.yaml"))["default"]
ROWS = [[2.0, 0.05, 1, 0], [9.0, 0.1, 1, 0], [5.0, 0.02, 30, 0]]


async def test_weights_of_a_request_change_its_values_alone(ranker: Stub) -> None:  # noqa: F811
    likes = pb.Weights(actions={"like": 2.0} | dict.fromkeys(ACTIONS[1:], 0.0))
    answer = await ranker.RankFeed(feed(ROWS, explain=True, weights=likes))
    for post in answer.posts:
        assert post.score == pytest.approx(2.0 * post.actions[0].probability)
    plain = await ranker.RankFeed(feed(ROWS, explain=True))
    assert plain.weights == DEFAULT.to_proto()
    assert plain.posts[0].score != answer.posts[0].score


async def test_what_is_not_set_is_as_in_the_profile_and_is_told(ranker: Stub) -> None:  # noqa: F811
    weights = pb.Weights(actions={"share": 7.5}, out_of_network=0.5, max_age_hours=24)
    answer = await ranker.RankFeed(feed(ROWS, explain=True, weights=weights))
    told = answer.weights
    assert dict(told.actions) == {"like": 1, "comment": 10, "share": 7.5, "follow": 8}
    assert (told.out_of_network, told.author_decay) == (0.5, DEFAULT.author_decay)
    (removed,) = answer.removed
    assert (removed.filter, removed.reason) == ("too_old", "age_hours is above 24")
    assert list(removed.post_ids) == [3]


async def test_a_decay_of_one_is_no_diversity_and_of_zero_is_the_floor(ranker: Stub) -> None:  # noqa: F811
    for decay, factors in ((1.0, [1, 1, 1]), (0.0, [1, 0.2, 0.2])):
        weights = pb.Weights(author_decay=decay, author_floor=0.2)
        answer = await ranker.RankFeed(
            feed(ROWS, author_ids=[1, 1, 1], explain=True, weights=weights)
        )
        assert [post.adjustments[1].factor for post in answer.posts] == factors


async def test_authors_shown_before_begin_further_down(ranker: Stub) -> None:  # noqa: F811
    first = await ranker.RankFeed(feed(ROWS, author_ids=[7, 8, 9], explain=True))
    again = await ranker.RankFeed(
        feed(ROWS, author_ids=[7, 8, 9], explain=True, shown_author_ids=[8, 8, 3])
    )
    before, after = ({p.post_id: p for p in answer.posts} for answer in (first, again))
    assert after[2].adjustments[1].factor == 0.25 + 0.75 * 0.25
    assert after[2].score == pytest.approx(before[2].score * after[2].adjustments[1].factor)
    assert after[1].score == before[1].score


@pytest.mark.parametrize(
    ("weights", "message"),
    [
        ({"actions": {"like": -1}}, "weights.actions[like] is -1, 0 to 100"),
        ({"actions": {"share": 100.5}}, "weights.actions[share] is 100.5, 0 to 100"),
        ({"actions": {"like": float("nan")}}, "weights.actions[like] is nan, 0 to 100"),
        ({"actions": {"love": 1}}, "weights.actions is 'love', keys are like, comment, share"),
        ({"out_of_network": 0}, "weights.out_of_network is 0, above 0 to 1"),
        ({"out_of_network": 1.01}, "weights.out_of_network is 1.01, above 0 to 1"),
        ({"author_decay": float("inf")}, "weights.author_decay is inf, 0 to 1"),
        ({"author_floor": -0.1}, "weights.author_floor is -0.1, 0 to 1"),
        ({"max_age_hours": 0}, "weights.max_age_hours is 0, above 0 to 100,000"),
    ],
)
async def test_weights_out_of_range_are_named(
    ranker: Stub,  # noqa: F811
    weights: dict[str, Any],
    message: str,
) -> None:
    error = await failure(ranker.RankFeed(feed(ROWS, weights=pb.Weights(**weights))))
    assert error.code() is grpc.StatusCode.INVALID_ARGUMENT
    assert message in (error.details() or "")


async def test_more_shown_posts_than_a_page_can_have_are_refused(ranker: Stub) -> None:  # noqa: F811
    error = await failure(ranker.RankFeed(feed(ROWS, shown_author_ids=range(1001))))
    assert error.code() is grpc.StatusCode.INVALID_ARGUMENT
    assert "shown_author_ids is 1,001 ids, at most 1,000" in (error.details() or "")
