"""Servers are killed under a cluster: every answer comes in time and says what is missing."""

import asyncio
from dataclasses import dataclass

import pytest
from running_cluster import ENOUGH_S, RunningCluster, Stub, node_of, request, service_named

from fomofeed.gateway.v1 import orchestrator_service_pb2 as pb

WHOLE_AGAIN_S = 2.0  # from SERVING: the back-off of at most 0.96 s, a connection, a health check


@dataclass(frozen=True, slots=True)
class Loss:
    """What is missing without one server, and what of the answer comes from its substitutes."""

    server: str
    substitutes: dict[str, str]  # by node
    moves: str  # field of the answer that follows the inputs that survived


LOSSES = [
    Loss("profile", {"profile": "population_prior"}, "engagement_score"),
    Loss("clip", {"clip": "author_tags"}, "tags"),
    Loss("timing", {"timing": "population_hours"}, "optimal_hour_of_week"),
    Loss("ranker", {"ranker": "linear_score"}, "engagement_score"),
    Loss("moderation", {"moderation": "hold_for_review"}, ""),
    Loss("text", {"caption": "author_draft", "notification": "plain_notification"}, "notification"),
]

FIRST = request("coffee.png", user_id=12, caption="First cup", tags=["coffee"])
OTHER = request("chelsea.png", user_id=2, caption="Our cat", tags=["cat"])


@pytest.mark.parametrize("loss", LOSSES, ids=lambda loss: loss.server)
async def test_a_killed_server_degrades_the_answer_and_it_is_whole_again_soon(
    cluster: RunningCluster, loss: Loss
) -> None:
    server = service_named(loss.server)
    async with cluster.gateway() as stub:
        with cluster.without(server):
            first, other = [
                await stub.Orchestrate(post, timeout=ENOUGH_S) for post in (FIRST, OTHER)
            ]
        await cluster.until_serving(server)
        await until_whole(stub)
    for answer in (first, other):
        assert answer.degraded
        assert {lost.node: lost.substitute for lost in answer.degradations} == loss.substitutes
        for node in loss.substitutes:
            assert node_of(answer, node).state == pb.NODE_STATE_SUBSTITUTED
    if loss.moves:
        assert getattr(first, loss.moves) != getattr(other, loss.moves)


async def until_whole(stub: Stub) -> None:
    """Asks until an answer is whole. Fails when that takes longer than it may."""
    loop = asyncio.get_running_loop()
    limit = loop.time() + WHOLE_AGAIN_S
    while True:
        asked = loop.time()
        answer = await stub.Orchestrate(FIRST, timeout=ENOUGH_S)
        if not answer.degraded:
            return
        assert asked < limit, answer.degradations


async def test_confidence_falls_by_the_declared_factor_without_moderation_it_does_not(
    cluster: RunningCluster,
) -> None:
    async with cluster.gateway() as stub:
        whole = await stub.Orchestrate(FIRST, timeout=ENOUGH_S)
        with cluster.without(service_named("clip")):
            degraded = await stub.Orchestrate(FIRST, timeout=ENOUGH_S)
        await cluster.until_serving(service_named("clip"))
        await until_whole(stub)
    assert 0 < degraded.confidence < whole.confidence


async def test_without_anybody_the_gateway_still_answers(cluster: RunningCluster) -> None:
    names = ["profile", "clip", "timing", "ranker", "moderation", "text"]
    async with cluster.gateway() as stub:
        with (
            cluster.without(service_named("profile")),
            cluster.without(service_named("clip")),
            cluster.without(service_named("timing")),
            cluster.without(service_named("ranker")),
            cluster.without(service_named("moderation")),
            cluster.without(service_named("text")),
        ):
            answer = await stub.Orchestrate(FIRST, timeout=ENOUGH_S)
        for name in names:
            await cluster.until_serving(service_named(name))
        await until_whole(stub)
    assert len(answer.degradations) == 7
    assert answer.HasField("optimal_time")
    assert answer.HasField("engagement_score")
    assert answer.suggested_caption == "First cup"
