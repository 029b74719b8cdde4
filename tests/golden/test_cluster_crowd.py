"""Many callers at once get what each would have got alone."""

import asyncio
import io
from collections.abc import Sequence

import numpy as np
import pytest
from PIL import Image
from running_cluster import RunningCluster, Stub, photo, request

from fomofeed.gateway.v1 import orchestrator_service_pb2 as pb

CROWD = 200
DEADLINE_S = 30.0
TOLERANCE = 1e-5


def distinct_crops(count: int) -> list[bytes]:
    """JPEGs of 320 px squares cut from one photograph, each from another place."""
    picture = Image.open(io.BytesIO(photo("china.jpg"))).convert("RGB")
    rng = np.random.default_rng(7)
    corners = {
        (int(rng.integers(picture.width - 320)), int(rng.integers(picture.height - 320)))
        for _ in range(2 * count)
    }
    crops = []
    for left, top in sorted(corners)[:count]:
        buffer = io.BytesIO()
        picture.crop((left, top, left + 320, top + 320)).save(buffer, "JPEG", quality=90)
        crops.append(buffer.getvalue())
    assert len(set(crops)) == count
    return crops


async def asked_together(
    stub: Stub, posts: Sequence[pb.OrchestrateRequest]
) -> list[pb.OrchestrateResponse]:
    return list(
        await asyncio.gather(*(stub.Orchestrate(post, timeout=DEADLINE_S) for post in posts))
    )


def errors_of(answers: Sequence[pb.OrchestrateResponse]) -> set[str]:
    return {f"{node.node}: {node.error}" for each in answers for node in each.nodes if node.error}


def measures(answer: pb.OrchestrateResponse) -> list[float]:
    """Everything in an answer that is a number and follows from the picture."""
    return [
        answer.quality_score,
        answer.engagement_score,
        answer.expected_reach,
        answer.confidence,
        answer.moderation.risk,
        *(tag.probability for tag in answer.tags),
    ]


@pytest.mark.prove
async def test_a_crowd_gets_the_answers_that_each_would_get_alone(cluster: RunningCluster) -> None:
    posts = [request(media=crop, moderate=False) for crop in distinct_crops(CROWD)]
    async with cluster.gateway() as stub:
        crowd = await asked_together(stub, posts)
        alone = [await stub.Orchestrate(post, timeout=DEADLINE_S) for post in posts]
    lost = [lost for answer in crowd for lost in answer.degradations]
    assert lost == [], f"{len(lost)} substitutions, {errors_of(crowd)}"
    for together, single in zip(crowd, alone, strict=True):
        assert [tag.label for tag in together.tags] == [tag.label for tag in single.tags]
        assert measures(together) == pytest.approx(measures(single), rel=TOLERANCE, abs=TOLERANCE)
        assert together.suggested_caption == single.suggested_caption


async def test_twenty_callers_at_once_are_all_answered_whole(cluster: RunningCluster) -> None:
    posts = [request(media=crop) for crop in distinct_crops(20)]
    async with cluster.gateway() as stub:
        answers = await asked_together(stub, posts)
        alone = await stub.Orchestrate(posts[0], timeout=DEADLINE_S)
    assert not any(answer.degraded for answer in answers)
    assert measures(answers[0]) == pytest.approx(measures(alone), rel=TOLERANCE, abs=TOLERANCE)
