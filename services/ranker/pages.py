"""The answer of `RankFeed`: one page of a ranking, as columns or as messages."""

from collections.abc import Iterator, Sequence

import numpy as np
from numpy.typing import NDArray

from fomofeed.ranker.v1 import ranker_service_pb2 as pb
from services.ranker import posts
from services.ranker.candidates import DEFAULT_PAGE_SIZE, Candidates, Removed
from services.ranker.ranking import Ranking, Step
from services.ranker.scorer import Actions
from services.ranker.weights import WeightProfile

Page = NDArray[np.int64]  # candidates, best first


def to_response(
    request: pb.RankFeedRequest,
    candidates: Candidates,
    removed: Sequence[Removed],
    ranking: Ranking,
    found: Actions,
    profile: WeightProfile,
) -> pb.RankFeedResponse:
    """Answers a request whose `candidates` passed the filters."""
    page = ranking.order[: request.page_size or DEFAULT_PAGE_SIZE]
    ids, scores = candidates.post_ids[page].tolist(), ranking.scores[page].tolist()
    response = pb.RankFeedResponse(removed=[_removed(one) for one in removed], model=found.ref)
    if request.as_columns:
        response.post_ids.extend(ids)
        response.scores.extend(scores)
        return response
    response.posts.extend(
        pb.RankedPost(post_id=post_id, score=score)
        for post_id, score in zip(ids, scores, strict=True)
    )
    if request.explain:
        response.weights.CopyFrom(profile.to_proto())
        _explain(response, page, ranking, found)
    return response


def _explain(response: pb.RankFeedResponse, page: Page, ranking: Ranking, found: Actions) -> None:
    adjustments = zip(*(_adjustments(step, page) for step in ranking.steps), strict=True)
    for post, rates, adjusted in zip(response.posts, found.rates[page], adjustments, strict=True):
        post.actions.extend(posts.action_probabilities(rates))
        post.adjustments.extend(adjusted)


def _adjustments(step: Step, page: Page) -> Iterator[pb.Adjustment]:
    columns = (step.factor, step.rank_before, step.rank_after)
    for factor, before, after in zip(*(column[page].tolist() for column in columns), strict=True):
        yield pb.Adjustment(stage=step.stage, factor=factor, rank_before=before, rank_after=after)


def _removed(removed: Removed) -> pb.RemovedPosts:
    return pb.RemovedPosts(
        filter=removed.filter, reason=removed.reason, post_ids=removed.post_ids.tolist()
    )
