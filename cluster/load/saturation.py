"""The search for the saturation point: which rate to offer next. Pure; it is told what passed.

Doubles (or halves) until it has a rate that passes and a higher one that fails, then bisects on the
geometric middle until they are within the tolerance. A shared machine hiccups: a rate fails only
when it fails `tries` times.
"""

import math
from dataclasses import dataclass


@dataclass(slots=True)
class Search:
    """`while (rate := search.next_rate()): search.tell(passed)`; then `passed` is the answer."""

    first: float  # the first rate, > 0
    tolerance: float = 0.05  # failed / passed - 1 at the end, > 0
    lowest: float = 1.0  # gives up below it
    highest: float = 1e6  # gives up above it
    tries: int = 2  # of a rate, before it counts as failed; >= 1
    passed: float = 0.0  # the highest rate that passed
    failed: float = math.inf  # the lowest that failed
    _strikes: int = 0

    def __post_init__(self) -> None:
        if not (self.first > 0 and self.tolerance > 0 and self.tries >= 1):
            raise ValueError("first and tolerance are > 0, tries >= 1")

    def next_rate(self) -> float | None:
        """Returns the rate to offer, None when the answer is known."""
        if not self.passed and self.failed == math.inf:
            return self.first
        if not self.passed:
            rate = self.failed / 2
            return rate if rate >= self.lowest else None
        if self.failed == math.inf:
            rate = self.passed * 2
            return rate if rate <= self.highest else None
        if self.failed <= self.passed * (1 + self.tolerance):
            return None
        return math.sqrt(self.passed * self.failed)

    def tell(self, passed: bool) -> None:
        """Learns whether the rate that `next_rate` returned passed."""
        rate = self.next_rate()
        assert rate is not None
        if passed:
            self.passed, self._strikes = rate, 0
            return
        self._strikes += 1
        if self._strikes >= self.tries:
            self.failed, self._strikes = rate, 0
