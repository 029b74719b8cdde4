import io
from pathlib import Path

import pytest
from rich.console import Console

from cluster.analyze import Answer, Post
from cluster.render import bar, draw, hour_of_week
from cluster.timeline import WIDTH, timeline
from fomofeed.clip.v1 import clip_service_pb2 as clip_pb
from fomofeed.gateway.v1 import orchestrator_service_pb2 as pb
from fomofeed.moderation.v1 import moderation_service_pb2 as moderation_pb
from fomofeed.type.v1 import type_pb2


def drawn(response: pb.OrchestrateResponse) -> str:
    console = Console(file=io.StringIO(), width=140, highlight=False)
    draw(console, Answer(response, took_s=0.143), Post(Path("beach.jpg"), user_id=7))
    assert isinstance(console.file, io.StringIO)
    return console.file.getvalue()


def whole() -> pb.OrchestrateResponse:
    model = type_pb2.ModelRef(
        model="lite0", version="1", artifact_sha256="ab" * 32, experimental=True
    )
    return pb.OrchestrateResponse(
        optimal_time=19,
        optimal_hour_of_week=43,
        expected_reach=780,
        expected_reach_interval=type_pb2.Estimate(p10=410, p50=780, p90=1300, unit="accounts"),
        quality_score=7.25,
        engagement_score=63,
        confidence=0.82,
        suggested_caption="Sea [bold]and[/bold] sand",
        tags=[clip_pb.Tag(label="beach", probability=0.91, source="imagenet")],
        moderation=pb.ModerationSummary(
            decision=moderation_pb.DECISION_ALLOW, risk=0.0, not_assessed=["violence"]
        ),
        nodes=[
            pb.NodeReport(
                node="clip",
                state=pb.NODE_STATE_SUCCEEDED,
                elapsed_us=90_500,
                budget_us=140_000,
                ledger=type_pb2.Ledger(model=model),
            )
        ],
    )


def test_an_answer_is_drawn_in_words_that_a_person_reads() -> None:
    text = drawn(whole())
    for words in (
        "beach.jpg, user 7: whole answer in 143 ms",
        "7.2 of 10",
        "beach  0.91 from imagenet",
        "Tuesday 19:00",
        "63 of 100",
        "about 780 accounts; 8 times of 10 between 410 and 1,300",
        "allow, risk 0.00",
        "not looked at: violence",
        "lite0 1 abababab experimental",
        "90.5 ms",
        "140.0 ms",
    ):
        assert words in text


def test_text_of_users_is_never_read_as_markup() -> None:
    assert "Sea [bold]and[/bold] sand" in drawn(whole())


def test_what_is_absent_is_said_to_be_unknown_and_never_drawn_as_zero() -> None:
    text = drawn(pb.OrchestrateResponse())
    assert text.count("not known") >= 6
    assert "0.0 of 10" not in text


def test_a_degradation_names_node_cause_substitute_and_price() -> None:
    response = whole()
    response.degraded = True
    response.degradations.add(
        node="timing",
        reason="DEADLINE_EXCEEDED",
        substitute="population_hours",
        confidence_factor=0.8,
    )
    text = drawn(response)
    assert "degraded answer" in text
    assert "timing did not answer in time (DEADLINE_EXCEEDED)" in text
    assert "population_hours stands in, confidence × 0.8" in text


@pytest.mark.parametrize(
    ("hour", "words"), [(0, "Monday 00:00"), (43, "Tuesday 19:00"), (167, "Sunday 23:00")]
)
def test_hours_of_the_week_are_read_as_day_and_hour(hour: int, words: str) -> None:
    assert hour_of_week(hour) == words


@pytest.mark.parametrize("share", [-1.0, 0.0, 0.01, 0.5, 0.999, 1.0, 2.0])
def test_a_bar_always_has_its_width(share: float) -> None:
    assert len(bar(share)) == 20


@pytest.mark.parametrize(
    ("began", "elapsed", "budget", "whole_us"),
    [(0, 0, 0, 0), (0, 10, 5, 10), (90, 10, 400, 100), (100, 0, 0, 100), (0, 100, 100, 100)],
)
def test_a_timeline_always_has_its_width(
    began: int, elapsed: int, budget: int, whole_us: int
) -> None:
    node = pb.NodeReport(elapsed_us=elapsed, budget_us=budget)
    assert len(timeline(began, node, whole_us)) == WIDTH


def test_a_timeline_shows_begin_duration_and_what_was_left() -> None:
    node = pb.NodeReport(elapsed_us=10, budget_us=15)
    assert timeline(10, node, 30) == "·" * 10 + "█" * 10 + "░" * 5 + "·" * 5
