"""Policies: files that turn signals into a decision, versioned, editable, free of code."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Self

import yaml

from fomofeed.moderation.v1 import moderation_service_pb2 as pb
from services.moderation.detectors import Finding
from serving.errors import NotFoundError
from serving.settings import SettingsError

SHIPPED = Path(__file__).parent / "policies"
DEFAULT = "default"
_DECISIONS: Mapping[str, "pb.Decision.ValueType"] = {
    "label": pb.DECISION_LABEL,
    "limit": pb.DECISION_LIMIT,
    "review": pb.DECISION_REVIEW,
    "block": pb.DECISION_BLOCK,
}
_RISK = "risk"


class PolicyError(SettingsError):
    """A policy file is malformed; the message names file and entry."""


@dataclass(frozen=True, slots=True)
class Rule:
    """Asks for `decision` when `subject` (a category, or the risk) reaches `threshold`."""

    subject: str
    decision: str
    threshold: float  # (0, 1]


@dataclass(frozen=True, slots=True)
class Verdict:
    """What a policy makes of findings."""

    decision: "pb.Decision.ValueType"
    risk: float
    reasons: list[str]


@dataclass(frozen=True, slots=True)
class Policy:
    """One policy file."""

    name: str
    version: str
    categories: tuple[str, ...]
    rules: tuple[Rule, ...]  # the gravest first

    @property
    def full_name(self) -> str:
        return f"{self.name}@{self.version}"

    @classmethod
    def read(cls, path: Path) -> Self:
        """Reads and checks a policy file. Raises `PolicyError`."""
        try:
            document = yaml.safe_load(path.read_text(encoding="utf-8"))
            categories = tuple(str(category) for category in document["categories"])
            policy = cls(document["name"], document["version"], categories, _rules(document))
        except (OSError, yaml.YAMLError, KeyError, TypeError, ValueError, AttributeError) as error:
            raise PolicyError(f"policy {path.name}: {error!r}") from error
        if not isinstance(policy.name, str) or not isinstance(policy.version, str):
            raise PolicyError(f"policy {path.name}: name and version are texts")
        for rule in policy.rules:
            if rule.subject not in (*categories, _RISK):
                raise PolicyError(f"policy {path.name}: {rule.subject} is no category of it")
        return policy

    def decide(self, findings: Sequence[Finding]) -> Verdict:
        """Returns the gravest decision that a rule asks for, and every rule's reason for it."""
        risk = noisy_or([finding.p_violation for finding in findings])
        values = {finding.category: finding.p_violation for finding in findings} | {_RISK: risk}
        hits = [rule for rule in self.rules if values.get(rule.subject, 0.0) >= rule.threshold]
        if not hits:
            return Verdict(pb.DECISION_ALLOW, risk, [])
        gravest = hits[0].decision
        reasons = [_reason(rule, values) for rule in hits if rule.decision == gravest]
        return Verdict(_DECISIONS[gravest], risk, reasons)

    def not_assessed(self, findings: Sequence[Finding]) -> list[str]:
        """Returns the categories that no finding speaks of."""
        assessed = {finding.category for finding in findings}
        return [category for category in self.categories if category not in assessed]


class Policies:
    """The policies of one folder, by name."""

    def __init__(self, policies: Sequence[Policy]) -> None:
        self._by_name = {policy.name: policy for policy in policies}
        if DEFAULT not in self._by_name or len(self._by_name) != len(policies):
            names = [policy.name for policy in policies]
            raise PolicyError(f"policies {names}: expected different names, one of them default")

    @classmethod
    def load(cls, folder: Path) -> Self:
        """Reads every `*.yaml` of a folder. Raises `PolicyError`."""
        return cls([Policy.read(path) for path in sorted(folder.glob("*.yaml"))])

    def find(self, name: str) -> Policy:
        """Returns the policy `name` or `name@version`; raises `NotFoundError`."""
        policy = self._by_name.get(name.partition("@")[0] or DEFAULT)
        if policy is None or ("@" in name and name != policy.full_name):
            known = tuple(policy.full_name for policy in self._by_name.values())
            raise NotFoundError("policy", name, known)
        return policy


def noisy_or(probabilities: Sequence[float]) -> float:
    """Returns the probability that at least one holds, were they independent; 0 for none."""
    none = 1.0
    for probability in probabilities:
        none *= 1.0 - probability
    return 1.0 - none


def _rules(document: Mapping[str, Any]) -> tuple[Rule, ...]:
    subjects = {**document.get("thresholds", {}), _RISK: document.get(_RISK, {})}
    rules = [
        Rule(subject, decision, float(threshold))
        for subject, thresholds in subjects.items()
        for decision, threshold in thresholds.items()
    ]
    for rule in rules:
        if rule.decision not in _DECISIONS or not 0 < rule.threshold <= 1:
            known = ", ".join(_DECISIONS)
            raise ValueError(f"{rule}: the decision is one of {known}, the threshold in (0, 1]")
    return tuple(sorted(rules, key=lambda rule: -_DECISIONS[rule.decision]))


def _reason(rule: Rule, values: Mapping[str, float]) -> str:
    value = values[rule.subject]
    return f"{rule.subject} {value:.2f} reaches {rule.threshold:.2f}: {rule.decision}"
