import math
from pathlib import Path
from typing import Any

import pytest
import yaml

from fomofeed.gateway.v1 import orchestrator_service_pb2 as pb
from fomofeed.moderation.v1 import moderation_service_pb2 as moderation_pb
from fomofeed.ranker.v1 import ranker_service_pb2 as ranker_pb
from fomofeed.text.v1 import text_service_pb2 as text_pb
from fomofeed.timing.v1 import timing_service_pb2 as timing_pb
from services.gateway.policies.substitute import from_table
from services.gateway.policies.tables import TableError, read_table


def stand_in(table: str, request: Any, response: Any) -> Any:
    """Builds `response` from a table, as for a node that was given `request`."""
    substitute = pb.Substitute(name="fixture", confidence_factor=0.5)
    compiled = from_table(
        substitute, yaml.safe_load(table), response.DESCRIPTOR, request.DESCRIPTOR
    )
    return compiled.build({}, set(), request)


def score(table: str, **fields: Any) -> ranker_pb.ScorePostResponse:
    return stand_in(table, ranker_pb.ScorePostRequest(**fields), ranker_pb.ScorePostResponse)


def one_term(**term: str) -> str:
    terms = [{"mean": 0, "coefficient": 1} | term]
    return yaml.safe_dump({"engagement_score": {"intercept": 1, "terms": terms}})


LINEAR = """
engagement_score:
  intercept: 50
  terms:
    - {source_field: quality_score, transform: identity, mean: 5, coefficient: 4}
    - {source_field: follower_count, transform: log1p, mean: 2, coefficient: 10}
  min: 0
  max: 100
reach.p50: {intercept: 300}
reach.unit: accounts
"""


def test_linear_rule_adds_its_terms_around_their_means() -> None:
    answer = score(LINEAR, quality_score=7.0, follower_count=9)
    assert answer.engagement_score == pytest.approx(50 + 4 * 2 + 10 * (math.log(10) - 2))
    assert (answer.reach.p50, answer.reach.unit) == (300, "accounts")


def test_absent_input_of_a_linear_rule_adds_nothing() -> None:
    assert score(LINEAR).engagement_score == 50
    assert score(LINEAR, quality_score=0.0).engagement_score == pytest.approx(30)


def test_linear_rule_stays_within_its_bounds() -> None:
    assert score(LINEAR, quality_score=10.0, follower_count=10**9).engagement_score == 100
    assert score(LINEAR, quality_score=-90.0).engagement_score == 0


PEAK = """
optimal_hour_of_week:
  peak: &best
    counts: engagements_by_hour
    exposure: posts_by_hour
    prior_rate: [1, 1, 2]
    prior_exposure: 4
optimal_hour: {peak: *best, modulo: 2}
evidence: EVIDENCE_POPULATION
"""


@pytest.mark.parametrize(
    ("posts", "engagements", "best"),
    [
        ([], [], 2),  # nothing known: the prior
        ([1, 1, 1], [1, 1, 1], 2),  # little known: still the prior
        ([9, 9, 9], [90, 9, 9], 0),  # much known: the author's own
        ([1], [99], 2),  # of the wrong size: not used
    ],
)
def test_peak_rule_shrinks_the_authors_rates_to_the_prior(
    posts: list[float], engagements: list[float], best: int
) -> None:
    request = timing_pb.SuggestPostingTimesRequest(
        posts_by_hour=posts, engagements_by_hour=engagements
    )
    answer = stand_in(PEAK, request, timing_pb.SuggestPostingTimesResponse)
    assert answer.optimal_hour_of_week == best
    assert answer.optimal_hour == best % 2
    assert answer.evidence == timing_pb.EVIDENCE_POPULATION


@pytest.mark.parametrize(
    ("fields", "text"),
    [
        ({"optimal_hour": 7, "engagement_score": 61.4}, "07:00, 61"),
        ({"optimal_hour": 0}, "00:00"),
        ({"engagement_score": 61.4}, "Done"),
    ],
)
def test_template_rule_takes_the_first_text_whose_fields_are_there(
    fields: dict[str, Any], text: str
) -> None:
    table = """notification: {template: [
        "{optimal_hour:02d}:00, {engagement_score:.0f}", "{optimal_hour:02d}:00", Done]}"""
    request = text_pb.GenerateNotificationRequest(**fields)
    answer = stand_in(table, request, text_pb.GenerateNotificationResponse)
    assert answer.notification == text


def test_constants_fill_lists_and_enums_by_name() -> None:
    table = "decision: DECISION_REVIEW\nnot_assessed: [hate, spam]"
    answer = stand_in(
        table, moderation_pb.ModerateContentRequest(), moderation_pb.ModerateContentResponse
    )
    assert answer.decision == moderation_pb.DECISION_REVIEW
    assert list(answer.not_assessed) == ["hate", "spam"]


@pytest.mark.parametrize(
    ("table", "fault"),
    [
        ("nonsense: 1", "unknown field 'nonsense'"),
        ("engagement_score: high", "'high' is no double"),
        ("engagement_score: {slope: 1}", "no rule among slope"),
        ("engagement_score: {intercept: much}", "could not convert"),
        (one_term(source_field="charm"), "unknown field 'charm'"),
        (one_term(source_field="caption"), "caption is a string, no number"),
        (one_term(source_field="quality_score", transform="cube"), "unknown transform 'cube'"),
        ("reach: {intercept: 1}", "cannot fill"),
        ("engagement_score: {template: x}", "a template cannot fill a double"),
    ],
)
def test_a_table_that_does_not_fit_is_refused_with_its_fault(table: str, fault: str) -> None:
    with pytest.raises(TableError, match=fault):
        score(table)


def test_a_file_that_is_no_table_is_refused(tmp_path: Path) -> None:
    with pytest.raises(TableError, match="cannot be read"):
        read_table(tmp_path / "missing.yaml")
    (tmp_path / "list.yaml").write_text("- 1")
    with pytest.raises(TableError, match="no mapping"):
        read_table(tmp_path / "list.yaml")
