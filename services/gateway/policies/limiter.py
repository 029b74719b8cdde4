"""Adaptive concurrency: how many calls of a node may run at once, learned from their durations.

A probe at the least concurrency (critical calls are spared it) measures how long a call takes when
nothing waits. After that, at the end of each window, which is as many calls as run at once, the
limit is multiplied by (tolerated duration / window's median) and given the square root of itself to
grow: it rises while the node keeps up, and falls in proportion once calls wait inside it. A limit
that has fallen without making the calls shorter means that the node itself has changed, so it is
probed again; now and then it is probed anyway. After Envoy's gradient controller; Gradient2, which
compares with a long-term average, drifts upwards under a load that never lets up. Calls that the
node turned away or left unanswered lower the limit once for all that ran together, as TCP has it.

Each class may use its share of the limit, so that as load rises sheddable work goes first,
then optional nodes, then the rest; critical work may use all of it.
"""

import math
from dataclasses import dataclass
from statistics import median

from serving.request import Criticality

SHARES = {Criticality.SHEDDABLE: 0.6, Criticality.DEFAULT: 0.9, Criticality.CRITICAL: 1.0}
OPTIONAL_SHARE = 0.8  # of what its class may use, for a node that the answer can do without
OVERLOAD_FACTOR = 0.9  # of the limit, when the node refused a call or left it unanswered
_PROBE_CALLS = 10  # while probing, in place of a window: a probe costs throughput
_CROWD = (
    2.0  # times the least concurrency: a probe with more critical calls than that tells nothing
)
_DEEP = 0.6  # a limit that has fallen to this share of itself has shown what a lower one does


@dataclass(frozen=True, slots=True)
class LimiterConfig:
    """Bounds of the limit, and how it is learned."""

    initial: int = 20  # calls at once after the first probe
    least: int = 4  # calls at once, >= 1; also while probing
    most: int = 1000
    tolerance: float = 2.0  # a duration so many times that of the probe is still normal, >= 1
    window: int = 20  # calls that are looked at together, at least, >= 1
    probe_windows: int = 500  # until it is probed again, >= 1

    def __post_init__(self) -> None:
        if not 1 <= self.least <= self.initial <= self.most:
            raise ValueError("limiter: 1 <= least <= initial <= most")
        if self.tolerance < 1 or self.window < 1 or self.probe_windows < 1:
            raise ValueError("limiter: tolerance, window and probe_windows are >= 1")


@dataclass(frozen=True, slots=True)
class _Fall:
    """Where a limit began to fall, and how long calls took then."""

    limit: float
    usual_s: float


class Limiter:
    """Pure: knows no clock; it is told how long calls took. For one node, on one event loop."""

    def __init__(self, config: LimiterConfig) -> None:
        self._config = config
        self._limit = float(config.initial)
        self._alone_s = 0.0  # how long a call takes when nothing waits
        self._is_probing = True
        self._forgiven = 0  # calls that still run from before the limit was last lowered for one
        self._stale = 0  # calls that still run from before the probe
        self._durations: list[float] = []
        self._windows = 0  # since the last probe
        self._disturbed = 0  # calls of this probe that did not run alone
        self._fall: _Fall | None = None
        self.in_flight = 0

    @property
    def limit(self) -> int:
        """Calls that may run at once, of the most critical class."""
        return self._config.least if self._is_probing else int(self._limit)

    @property
    def has_room(self) -> bool:
        """Whether even the least critical calls would find a place."""
        return self.in_flight < math.floor(self.limit * SHARES[Criticality.SHEDDABLE])

    def try_acquire(self, criticality: Criticality, is_optional: bool = False) -> bool:
        """Takes a place for one call; false when its class has none left."""
        share = SHARES[criticality] * (OPTIONAL_SHARE if is_optional else 1.0)
        is_spared = criticality is Criticality.CRITICAL and not is_optional and self._alone_s > 0
        limit = int(self._limit) if is_spared else self.limit
        if self.in_flight >= max(1, math.floor(limit * share)):
            return False
        self.in_flight += 1
        return True

    def release(self, duration_s: float | None) -> None:
        """Gives the place back; `duration_s` of a call that was answered, None of one that was not.

        Who was refused, or not answered in time, says `overloaded` instead.
        """
        was_busy = self.in_flight * 2 >= self.limit
        is_crowded = self.in_flight > _CROWD * self._config.least
        self._leave()
        if self._stale:
            self._stale -= 1
            return
        if duration_s is None or duration_s <= 0 or not (was_busy or self._is_probing):
            return  # a limit that is not used cannot be judged
        if self._is_probing and is_crowded and self._alone_s > 0:
            self._disturbed += 1
            if self._disturbed >= max(self._config.window, self._limit):
                self._end_probe(self._alone_s)
            return
        self._durations.append(duration_s)
        enough = _PROBE_CALLS if self._is_probing else max(self._config.window, self.limit)
        if len(self._durations) >= enough:
            self._learn(median(self._durations))
            self._durations.clear()

    def overloaded(self) -> None:
        """Gives the place of a call back that the node refused, or did not answer in time."""
        if not self._forgiven:
            self._set(self._limit * OVERLOAD_FACTOR)
            self._forgiven = self.in_flight
        self._leave()
        self._stale = max(0, self._stale - 1)

    def _leave(self) -> None:
        self.in_flight -= 1
        self._forgiven = max(0, self._forgiven - 1)

    def _learn(self, usual_s: float) -> None:
        if self._is_probing:
            self._end_probe(usual_s)
            return
        self._windows += 1
        before = self._limit
        gradient = min(1.0, max(0.5, self._config.tolerance * self._alone_s / usual_s))
        self._set(before * gradient + math.sqrt(before))
        if self._has_changed(before, usual_s) or self._windows >= self._config.probe_windows:
            self._is_probing, self._stale = True, self.in_flight

    def _end_probe(self, alone_s: float) -> None:
        self._alone_s, self._is_probing = alone_s, False
        self._windows = self._disturbed = 0
        self._fall = None
        self._durations.clear()
        self._set(max(self._limit, float(self._config.initial)))

    def _has_changed(self, before: float, usual_s: float) -> bool:
        """Whether the limit falls, or can fall no further, and the calls do not follow it."""
        is_least = self._limit <= self._config.least + math.sqrt(self._limit)
        if self._limit > before or (self._limit == before and not is_least):
            self._fall = None
            return False
        self._stale = self.in_flight  # the next window is to show what the lower limit does
        if self._fall is None:
            self._fall = _Fall(before, usual_s)
            return False
        share = self._limit / self._fall.limit
        return (is_least or share <= _DEEP) and usual_s > math.sqrt(share) * self._fall.usual_s

    def _set(self, limit: float) -> None:
        self._limit = min(float(self._config.most), max(float(self._config.least), limit))
