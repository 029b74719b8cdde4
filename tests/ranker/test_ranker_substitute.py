from collections.abc import Collection
from pathlib import Path

import numpy as np
import pytest
import yaml

from fomofeed.ranker.v1 import ranker_service_pb2 as pb
from services.ranker.substitute import (
    fit_confidence,
    fit_reach,
    fit_score,
    linear_score,
    write_linear_score,
)
from simulation.audience import Family
from simulation.feed import draw_feed

TABLES = Path("services/gateway/tables")
CONFIDENCE = {"avg_engagement": 0.2, "quality_score": 0.1, "": 0.4}


def test_rule_finds_a_linear_score_again(tmp_path: Path) -> None:
    rng = np.random.default_rng(1)
    inputs = {
        "quality_score": rng.uniform(0, 10, 500),
        "avg_engagement": rng.uniform(0, 0.2, 500),
        "has_video": (rng.random(500) < 0.5).astype(float),
    }
    score = 30 + 3 * inputs["quality_score"] + 5 * inputs["has_video"]
    fitted = fit_score(inputs, score)
    assert linear_score(fitted, inputs) == pytest.approx(score)
    path = tmp_path / "table.yaml"
    write_linear_score(path, fitted, {"p50": (100.0, 0.3)}, CONFIDENCE)
    table = yaml.safe_load(path.read_text())
    assert table["engagement_score"]["terms"][0]["coefficient"] == pytest.approx(3.0)
    assert table["reach.p50"]["intercept"] == 100.0
    assert {term["source_field"]: term["coefficient"] for term in table["confidence"]["terms"]} == {
        name: value for name, value in CONFIDENCE.items() if name
    }


def test_confidence_of_the_rule_follows_what_is_known() -> None:
    def right(hidden: Collection[str]) -> float:
        return sum(value for name, value in CONFIDENCE.items() if name not in hidden)

    assert fit_confidence(right) == pytest.approx(CONFIDENCE)


def test_an_input_that_is_not_known_moves_the_score_by_nothing() -> None:
    fitted = {"quality_score": (5.0, 3.0), "avg_engagement": (0.1, 9.0), "has_video": (0.5, 2.0)}
    fitted[""] = (0.0, 50.0)
    inputs = {"quality_score": np.array([6.0])}
    assert linear_score(fitted, inputs) == pytest.approx([53.0])


def test_reach_quantiles_cover_four_fifths_of_the_posts() -> None:
    feed = draw_feed(np.random.default_rng(2), 500, 20, Family.A)
    fitted = fit_reach(feed.follower_count, feed.reach)
    low, high = (
        fitted[name][0] + fitted[name][1] * (feed.follower_count - 900.0) for name in ("p10", "p90")
    )
    assert ((low <= feed.reach) & (feed.reach <= high)).mean() == pytest.approx(0.8, abs=0.03)


def test_committed_table_names_fields_of_the_contract() -> None:
    table = yaml.safe_load((TABLES / "linear_score.yaml").read_text())
    response, request = pb.ScorePostResponse.DESCRIPTOR, pb.ScorePostRequest.DESCRIPTOR
    assert {name.split(".")[0] for name in table} <= set(response.fields_by_name)
    for rule in table.values():
        for term in rule.get("terms", ()) if isinstance(rule, dict) else ():
            assert term["source_field"] in request.fields_by_name


def test_committed_factors_never_raise_confidence() -> None:
    table = yaml.safe_load((TABLES / "confidence.yaml").read_text())
    assert set(table) == {"profile", "clip", "timing", "ranker"}
    for node in table.values():
        assert 0 < node["factor"] <= 1
