"""A rule of the checklist, how it is checked, and what came of it."""

from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from enum import Enum

from serving.oip.conformance.target import Target

Check = Callable[[Target], Awaitable[None]]


class Level(Enum):
    """What the standard's text says of a rule; SHOULD is implied, or what everybody does."""

    MUST = "MUST"
    SHOULD = "SHOULD"


class Verdict(Enum):
    """What came of a check."""

    PASS = "pass"
    FAIL = "FAIL"
    SKIP = "skip"


@dataclass(frozen=True, slots=True)
class Rule:
    """`number` is that of the checklist, with a letter where a rule has several checks."""

    number: str
    level: Level
    title: str
    check: Check


@dataclass(frozen=True, slots=True)
class Result:
    """A rule and its verdict; `reason` is empty for a pass."""

    rule: Rule
    verdict: Verdict
    reason: str = ""
