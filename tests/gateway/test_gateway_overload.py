"""Overload on the virtual clock: what a node, and the whole graph, still do when asked too much."""

from collections import Counter

import pytest

from services.gateway.calling import Policies
from services.gateway.outcome import Call, Outcome
from services.gateway.policies.latency import LatencyWindow
from services.gateway.policies.limited import Limited
from services.gateway.policies.limiter import Limiter, LimiterConfig
from serving.request import Criticality
from tests.gateway.conftest import PLANS
from tests.gateway.scripts import REQUEST
from tests.gateway.sleeping_nodes import SleepingNode, arriving, given, sleeping_graph
from tests.virtual_time import now, virtual_time

LEFT_S = 0.45  # of a caller's 500 ms when a node is called
WARM_UP_S = 2.0
MIX = {Criticality.CRITICAL: 0.2, Criticality.DEFAULT: 0.5, Criticality.SHEDDABLE: 0.3}
SHAPES = [(1, 0.020), (4, 0.040), (8, 0.100)]  # rows of an engine call, and its time


class Node:
    """A sleeping node behind its limiter; remembers when it answered, and whom it did not."""

    def __init__(self, most: int, batch_s: float) -> None:
        self.sleeping = SleepingNode("clip", batch_s, most)
        self.answered: list[float] = []
        self.counts: Counter[tuple[Criticality, bool]] = Counter()
        latency = LatencyWindow(0.09)
        self._call: Call = Limited(self._watched(latency), Limiter(LimiterConfig()), latency)

    def _watched(self, latency: LatencyWindow) -> Call:
        async def call(request: object, deadline: float) -> Outcome:
            began = now()
            outcome = await self.sleeping(REQUEST, deadline)
            if outcome.answer is not None:
                latency.add(now() - began)
            return outcome

        return call

    async def ask(self, number: int, criticality: Criticality) -> None:
        came = now()
        outcome = await given(lambda deadline: self._call(REQUEST, deadline), criticality, LEFT_S)
        is_good = outcome is not None and outcome.answer is not None
        if is_good:
            self.answered.append(now())
        if came >= WARM_UP_S:
            self.counts[criticality, is_good] += 1

    def rate(self, begin: float, end: float) -> float:
        """Answers a second between two times."""
        return sum(begin <= at < end for at in self.answered) / (end - begin)


@pytest.mark.parametrize("times", [2, 3, 5])
@pytest.mark.parametrize(("most", "batch_s"), SHAPES)
def test_a_node_does_its_most_at_any_overload(most: int, batch_s: float, times: float) -> None:
    @virtual_time
    async def run() -> None:
        node = Node(most, batch_s)
        async with node.sleeping.batcher:
            await arriving(times * node.sleeping.peak, 6.0, node.ask)
        assert node.rate(WARM_UP_S, 6.0) >= 0.95 * node.sleeping.peak
        assert node.sleeping.late == 0
        assert node.sleeping.for_nobody <= 0.01 * node.sleeping.executed

    run()


@pytest.mark.parametrize(("most", "batch_s"), SHAPES)
def test_critical_callers_are_answered_at_twice_the_load(most: int, batch_s: float) -> None:
    @virtual_time
    async def run() -> None:
        node = Node(most, batch_s)
        async with node.sleeping.batcher:
            await arriving(2 * node.sleeping.peak, 12.0, node.ask, MIX)
        lost, answered = (node.counts[Criticality.CRITICAL, good] for good in (False, True))
        assert answered > 100
        assert lost <= 0.001 * answered
        assert node.counts[Criticality.DEFAULT, True] > node.counts[Criticality.SHEDDABLE, True]

    run()


@pytest.mark.parametrize(
    ("most", "batch_s"), [(1, 0.020), (4, 0.020), pytest.param(8, 0.025, marks=pytest.mark.prove)]
)
def test_a_node_that_becomes_four_times_slower_does_its_most_again_within_5_s(
    most: int, batch_s: float
) -> None:
    @virtual_time
    async def run() -> None:
        node = Node(most, batch_s)
        async with node.sleeping.batcher:
            await arriving(node.sleeping.peak, 4.0, node.ask)
            offered = node.sleeping.peak
            node.sleeping.batch_s *= 4
            changed = now()
            await arriving(offered, 9.0, node.ask)
        assert node.rate(changed + 5.0, changed + 9.0) >= 0.95 * node.sleeping.peak

    run()


def nodes() -> list[SleepingNode]:
    """The graph's servers: clip is what saturates, at 50 a second; the others have room."""
    return [
        SleepingNode("profile", 0.002, 8),
        SleepingNode("clip", 0.040, 2),
        SleepingNode("timing", 0.010, 8),
        SleepingNode("ranker", 0.005, 16),
        SleepingNode("caption", 0.002, 8),
        SleepingNode("notification", 0.002, 8),
        SleepingNode("moderation", 0.050, 4),
    ]


@pytest.mark.parametrize(
    ("times", "seconds"),
    [(3, 4.0), *(pytest.param(t, 20.0, marks=pytest.mark.prove) for t in (1, 2, 3, 5))],
)
def test_the_whole_graph_gives_as_many_whole_answers_as_its_slowest_node_can(
    times: float, seconds: float
) -> None:
    @virtual_time
    async def run() -> None:
        async with sleeping_graph(PLANS["analyze"], nodes(), Policies()) as graph:
            peak = graph.nodes["clip"].peak
            await arriving(times * peak, seconds, graph.ask)
            assert graph.good_rate(WARM_UP_S, seconds) >= (0.85 if times == 1 else 0.95) * peak
            assert {what for _, what in graph.counts} <= {"WHOLE", "DEGRADED"}
            assert {node for node, _ in graph.lost} == {"clip"}
            assert sum(node.late for node in graph.nodes.values()) == 0
            done = sum(node.executed for node in graph.nodes.values())
            assert sum(node.for_nobody for node in graph.nodes.values()) <= 0.01 * done

    run()


@pytest.mark.parametrize("seconds", [6.0, pytest.param(60.0, marks=pytest.mark.prove)])
def test_critical_posts_are_answered_whole_at_twice_the_load_of_the_graph(seconds: float) -> None:
    @virtual_time
    async def run() -> None:
        async with sleeping_graph(PLANS["analyze"], nodes(), Policies()) as graph:
            graph.counted_from = now() + WARM_UP_S
            await arriving(2 * graph.nodes["clip"].peak, WARM_UP_S + seconds, graph.ask, MIX)
        whole = graph.counts[Criticality.CRITICAL, "WHOLE"]
        assert whole > 15 * seconds
        lost = sum(graph.counts[Criticality.CRITICAL, what] for what in ("DEGRADED", "FAILED"))
        assert lost <= 0.001 * whole
        assert (
            graph.counts[Criticality.SHEDDABLE, "WHOLE"]
            < graph.counts[Criticality.DEFAULT, "WHOLE"]
        )

    run()
