"""Adaptive concurrency: how many calls of a node may run at once, learned from their durations.

A probe at the least concurrency measures how long a call takes when nothing waits. After that, at
the end of each window of calls, the limit is multiplied by (tolerated duration / window's median)
and given the square root of itself to grow: it rises while the node keeps up, and falls in
proportion once calls wait inside it. A limit that stays at its least means that the node itself has
changed, so it is probed again; now and then it is probed anyway. After Envoy's gradient controller;
Gradient2, which compares with a long-term average, drifts upwards under a load that never lets up.

Each class may use its share of the limit, so that as load rises sheddable work goes first,
then optional nodes, then the rest; critical work may use all of it.
"""

import math
from dataclasses import dataclass
from statistics import median

from serving.request import Criticality

SHARES = {Criticality.SHEDDABLE: 0.6, Criticality.DEFAULT: 0.9, Criticality.CRITICAL: 1.0}
OPTIONAL_SHARE = 0.8  # of what its class may use, for a node that the answer can do without
OVERLOAD_FACTOR = 0.9  # of the limit, for each call that the node refused or left unanswered
_STUCK_WINDOWS = 3  # at the least limit, until the node is probed again


@dataclass(frozen=True, slots=True)
class LimiterConfig:
    """Bounds of the limit, and how it is learned."""

    initial: int = 20  # calls at once after the first probe
    least: int = 4  # calls at once, >= 1; also while probing
    most: int = 1000
    tolerance: float = 2.0  # a duration so many times that of the probe is still normal, >= 1
    window: int = 20  # calls that are looked at together, >= 1
    probe_windows: int = 500  # until it is probed again, >= 1

    def __post_init__(self) -> None:
        if not 1 <= self.least <= self.initial <= self.most:
            raise ValueError("limiter: 1 <= least <= initial <= most")
        if self.tolerance < 1 or self.window < 1 or self.probe_windows < 1:
            raise ValueError("limiter: tolerance, window and probe_windows are >= 1")


class Limiter:
    """Pure: knows no clock; it is told how long calls took. For one node, on one event loop."""

    def __init__(self, config: LimiterConfig) -> None:
        self._config = config
        self._limit = float(config.initial)
        self._alone_s = 0.0  # how long a call takes when nothing waits
        self._is_probing = True
        self._stale = 0  # calls that still run from before the probe
        self._durations: list[float] = []
        self._windows = 0  # since the last probe
        self._stuck = 0
        self.in_flight = 0

    @property
    def limit(self) -> int:
        """Calls that may run at once, of the most critical class."""
        return self._config.least if self._is_probing else int(self._limit)

    def try_acquire(self, criticality: Criticality, is_optional: bool = False) -> bool:
        """Takes a place for one call; false when its class has none left."""
        share = SHARES[criticality] * (OPTIONAL_SHARE if is_optional else 1.0)
        if self.in_flight >= max(1, math.floor(self.limit * share)):
            return False
        self.in_flight += 1
        return True

    def release(self, duration_s: float | None) -> None:
        """Gives the place back; `duration_s` of a call that was answered, None of one that was not.

        Who was refused, or not answered in time, says `overloaded` instead.
        """
        was_busy = self.in_flight * 2 >= self.limit
        self.in_flight -= 1
        if self._stale:
            self._stale -= 1
            return
        if duration_s is None or duration_s <= 0 or not (was_busy or self._is_probing):
            return  # a limit that is not used cannot be judged
        self._durations.append(duration_s)
        if len(self._durations) >= self._config.window:
            self._learn(median(self._durations))
            self._durations.clear()

    def overloaded(self) -> None:
        """Gives the place of a call back that the node refused, or did not answer in time."""
        self.in_flight -= 1
        self._stale = max(0, self._stale - 1)
        self._set(self._limit * OVERLOAD_FACTOR)

    def _learn(self, usual_s: float) -> None:
        if self._is_probing:
            self._alone_s, self._is_probing = usual_s, False
            self._windows = self._stuck = 0
            return
        self._windows += 1
        gradient = min(1.0, max(0.5, self._config.tolerance * self._alone_s / usual_s))
        self._set(self._limit * gradient + math.sqrt(self._limit))
        is_least = gradient < 1.0 and self._limit <= self._config.least + math.sqrt(self._limit)
        self._stuck = self._stuck + 1 if is_least else 0
        if self._stuck >= _STUCK_WINDOWS or self._windows >= self._config.probe_windows:
            self._is_probing, self._stale = True, self.in_flight

    def _set(self, limit: float) -> None:
        self._limit = min(float(self._config.most), max(float(self._config.least), limit))
