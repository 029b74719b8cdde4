from pathlib import Path

import pytest
import yaml
from hypothesis import given
from hypothesis import strategies as st

from fomofeed.moderation.v1 import moderation_service_pb2 as pb
from fomofeed.type.v1 import type_pb2
from services.moderation.detectors import Finding
from services.moderation.policy import SHIPPED, Policies, Policy, PolicyError, noisy_or
from serving.errors import NotFoundError

DOCUMENT = {
    "name": "default",
    "version": "3",
    "categories": ["nsfw", "spam", "violence"],
    "thresholds": {
        "nsfw": {"label": 0.2, "review": 0.5, "block": 0.85},
        "spam": {"limit": 0.6, "review": 0.5},
    },
    "risk": {"review": 0.75},
}


def policy(folder: Path, **changes: object) -> Policy:
    path = folder / "ours.yaml"
    path.write_text(yaml.safe_dump({**DOCUMENT, **changes}))
    return Policy.read(path)


def findings(**values: float) -> list[Finding]:
    return [Finding(name, value, type_pb2.ModelRef()) for name, value in values.items()]


@pytest.mark.parametrize(
    ("nsfw", "decision"),
    [
        (0.0, pb.DECISION_ALLOW),
        (0.199, pb.DECISION_ALLOW),
        (0.2, pb.DECISION_LABEL),
        (0.5, pb.DECISION_REVIEW),
        (0.849, pb.DECISION_REVIEW),
        (0.85, pb.DECISION_BLOCK),
        (1.0, pb.DECISION_BLOCK),
    ],
)
def test_shipped_policy_acts_at_its_thresholds(nsfw: float, decision: int) -> None:
    verdict = Policies.load(SHIPPED).find("").decide(findings(nsfw=nsfw))
    assert verdict.decision == decision
    assert bool(verdict.reasons) == (decision != pb.DECISION_ALLOW)


def test_gravest_rule_decides_and_every_rule_for_it_gives_its_reason(tmp_path: Path) -> None:
    verdict = policy(tmp_path).decide(findings(nsfw=0.6, spam=0.7))
    assert verdict.decision == pb.DECISION_REVIEW
    assert sorted(verdict.reasons) == [
        "nsfw 0.60 reaches 0.50: review",
        "risk 0.88 reaches 0.75: review",
        "spam 0.70 reaches 0.50: review",
    ]


def test_nothing_assessed_is_allowed_with_everything_unassessed(tmp_path: Path) -> None:
    ours = policy(tmp_path)
    assert ours.decide([]).decision == pb.DECISION_ALLOW
    assert ours.not_assessed([]) == ["nsfw", "spam", "violence"]
    assert ours.not_assessed(findings(spam=0.1)) == ["nsfw", "violence"]


@given(st.lists(st.floats(0, 1), max_size=8))
def test_risk_is_a_probability_no_smaller_than_its_largest_part(parts: list[float]) -> None:
    risk = noisy_or(parts)
    assert 0 <= risk <= 1
    assert risk >= max(parts, default=0) - 1e-12


@pytest.mark.parametrize(
    "change",
    [
        {"version": 3},
        {"categories": None},
        {"thresholds": {"gore": {"block": 0.5}}},
        {"thresholds": {"nsfw": {"forbid": 0.5}}},
        {"thresholds": {"nsfw": {"block": 1.5}}},
        {"thresholds": {"nsfw": {"block": "high"}}},
        {"thresholds": {"nsfw": 0.5}},
        {"risk": {"review": 0}},
    ],
)
def test_malformed_policy_is_refused_by_name(tmp_path: Path, change: dict[str, object]) -> None:
    with pytest.raises(PolicyError, match=r"policy ours\.yaml"):
        policy(tmp_path, **change)


@pytest.mark.parametrize("text", ["", "[]", "a: b: c"])
def test_file_that_is_no_policy_is_refused(tmp_path: Path, text: str) -> None:
    path = tmp_path / "odd.yaml"
    path.write_text(text)
    with pytest.raises(PolicyError, match=r"odd\.yaml"):
        Policy.read(path)


def test_policy_is_found_by_name_and_by_name_with_version(tmp_path: Path) -> None:
    policies = Policies([policy(tmp_path), policy(tmp_path, name="strict", version="9")])
    assert policies.find("").full_name == "default@3"
    assert policies.find("strict").full_name == policies.find("strict@9").full_name == "strict@9"
    for unknown in ("loose", "strict@8", "@9"):
        with pytest.raises(NotFoundError, match="known: default@3, strict@9"):
            policies.find(unknown)


def test_folder_without_a_default_or_with_one_name_twice_is_refused(tmp_path: Path) -> None:
    with pytest.raises(PolicyError, match="one of them default"):
        Policies.load(tmp_path)
    with pytest.raises(PolicyError, match="different names"):
        Policies([policy(tmp_path), policy(tmp_path)])
