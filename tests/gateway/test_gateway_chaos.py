"""Every service away, alone and in every company: what is answered, in time, and who stands in."""

import asyncio
import time
from itertools import chain, combinations

import pytest

from fomofeed.gateway.v1 import orchestrator_service_pb2 as pb
from fomofeed.moderation.v1 import moderation_service_pb2 as moderation_pb
from tests.gateway.conftest import Analyze
from tests.gateway.fake_nodes import TUESDAY_19
from tests.gateway.test_gateway_degradation import SERVICES, SUBSTITUTES, lost

NODES = {service: [service] for service in SERVICES} | {"text": ["caption", "notification"]}
SUBSETS = [*chain.from_iterable(combinations(SERVICES, count) for count in range(7))]


def trouble(services: tuple[str, ...], kind: str) -> str:
    """The text of faults that brings `kind` to all nodes of `services`."""
    return ";".join(f"{node}:{kind}" for service in services for node in NODES[service])


def expected(services: tuple[str, ...], reason: str) -> dict[str, tuple[str, str]]:
    return {node: (reason, SUBSTITUTES[node]) for s in services for node in NODES[s]}


async def test_every_company_of_absent_services_is_answered_by_the_right_substitutes(
    analyze: Analyze,
) -> None:
    assert len(SUBSETS) == 64
    for services in SUBSETS:
        response = await analyze.drill(trouble(services, "error"), moderate=True)
        assert lost(response) == expected(services, "UNAVAILABLE"), services
        assert response.degraded == bool(services)
        follows_what_survived(response, services)


def follows_what_survived(response: pb.OrchestrateResponse, lost: tuple[str, ...]) -> None:
    """The substitutes say what the inputs that are left let them say, and no more."""
    assert response.HasField("quality_score") == ("clip" not in lost)
    labels = [tag.label for tag in response.tags]
    assert labels == (["ai", "test"] if "clip" in lost else ["beach"])
    hour = response.optimal_hour_of_week
    assert (hour == TUESDAY_19) == ("profile" not in lost)
    assert response.optimal_time == hour % 24
    draft = "Test caption" if "text" in lost else " ".join(["Test caption", *_hashed(labels)])
    assert response.suggested_caption == draft
    if "text" in lost:
        assert f"{response.optimal_time:02d}:00" in response.notification
        assert f"{response.engagement_score:.0f} of 100" in response.notification
    else:
        assert response.notification.endswith(str(response.optimal_time))
    held = response.moderation.decision == moderation_pb.DECISION_REVIEW
    assert held == ("moderation" in lost)
    factor = 1.0
    for one in response.degradations:
        factor *= one.confidence_factor
    if "ranker" not in lost:
        assert response.confidence == pytest.approx(0.8 * factor)
    assert 0 <= response.confidence <= 0.8
    assert 0 <= response.engagement_score <= 100


def _hashed(labels: list[str]) -> list[str]:
    return [f"#{label}" for label in labels]


@pytest.mark.parametrize(
    ("kind", "reason"),
    [
        ("hang", "DEADLINE_EXCEEDED"),
        ("latency=30s", "DEADLINE_EXCEEDED"),
        ("error=INTERNAL", "INTERNAL"),
        ("error=UNKNOWN", "UNKNOWN"),
        ("error=UNAVAILABLE", "UNAVAILABLE"),
        ("error=RESOURCE_EXHAUSTED", "RESOURCE_EXHAUSTED"),
        ("garbage=empty", "INVALID_OUTPUT"),
    ],
)
async def test_each_service_in_trouble_alone_is_replaced_within_the_deadline(
    analyze: Analyze, kind: str, reason: str
) -> None:
    start = time.perf_counter()
    responses = await asyncio.gather(
        *(analyze.drill(trouble((one,), kind), timeout_s=0.9, moderate=True) for one in SERVICES)
    )
    assert time.perf_counter() - start < 5.0  # six at once on a busy machine; trouble lasts 30 s
    for service, response in zip(SERVICES, responses, strict=True):
        found = lost(response)
        own = {node: found.pop(node) for node in NODES[service]}
        assert own == expected((service,), reason), service
        late = {node: ("DEADLINE_EXCEEDED", SUBSTITUTES[node]) for node in found}
        assert found == (late if reason == "DEADLINE_EXCEEDED" else {}), service


@pytest.mark.parametrize(
    ("node", "kind"),
    [
        ("profile", "nan"),
        ("profile", "sizes"),
        ("clip", "nan"),
        ("timing", "nan"),
        ("ranker", "nan"),
        ("moderation", "nan"),
    ],
)
async def test_numbers_that_are_none_and_lists_of_a_wrong_size_are_no_answer(
    analyze: Analyze, node: str, kind: str
) -> None:
    response = await analyze.drill(f"{node}:garbage={kind}", moderate=True)
    assert lost(response) == {node: ("INVALID_OUTPUT", SUBSTITUTES[node])}


async def test_half_of_all_calls_failing_still_answers_everybody(analyze: Analyze) -> None:
    faults = trouble(tuple(SERVICES), "error=INTERNAL@0.5")
    responses = await asyncio.gather(*(analyze.drill(faults) for _ in range(40)))
    for response in responses:
        assert response.degraded == bool(response.degradations)
        assert response.suggested_caption
        assert response.HasField("optimal_time")
