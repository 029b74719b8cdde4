"""How long an engine call takes: `a + b * work` per shape bucket, learned while serving.

Work is the rows of a batch, or of a ragged model the elements: what its time grows with.
Exponentially forgetting least squares with a >= 0 and b >= 0. An observation far from the
prediction is pulled towards it, so one stall teaches little; several in a row on the same
side are a new regime, and the old one is forgotten at once. The first calls of a process pay for
what later ones find done: a young line forgets them when as much work takes half the time.

While all batches have one size nothing tells the price of a call from that of its work: they keep
the shares that they had. Otherwise a model of 1 ms a call, asked for one row at a time by a
process that stalls for a while, would seem to need hours for a queue. A batch far larger than
all before is believed whatever it takes.
"""

import math
from collections.abc import Hashable, Iterator
from dataclasses import dataclass, field

_FORGET = 0.97  # weight of the past at each observation: a memory of about 33 batches
_TRUST_AFTER = 5  # observations before outliers are pulled in
_FAR = 2.0  # an outlier is this many times above or below the prediction
_WIDER = 2  # times the work of the largest batch seen: no line reaches so far
_REGIME_AFTER = 4  # outliers on one side in a row
_FRESH_S = 1.0  # a prediction older than this no longer refuses anybody ...
_MAX_BUCKETS = 1024  # callers choose shapes: what is remembered of them is bounded
_SHOWN_BUCKETS = 16  # told as a metric
_FRESH_CALLS = 20.0  # ... or than this many calls of the predicted length
_NEWEST = 0.1  # weight of a call's time in that of its octave
_WORSE = 1.05  # times the least seconds for one: beyond it a size is not worth its time
_TRY_EVERY = 64  # calls, for each of two other sizes
_REMEMBER = 16 * _TRY_EVERY  # calls that an octave is known for without a new one


@dataclass(slots=True)
class Curve:
    """Seconds for one of the work by the size of the batch, in octaves: 1, 2, 3 to 4, 5 to 8, ...

    Large batches leave the processor's caches. So a row may take longest in the largest, which a
    line through all sizes does not show.
    """

    _unit_s: dict[int, float] = field(default_factory=dict)  # by octave
    _seen_at: dict[int, int] = field(default_factory=dict)  # by octave: at which observation
    _count: int = 0

    def observe(self, work: int, seconds: float) -> None:
        """Learns from one engine call of work >= 1."""
        octave, unit_s = (work - 1).bit_length(), seconds / work
        before = self._unit_s.get(octave, unit_s)
        self._unit_s[octave] = before + (unit_s - before) * _NEWEST
        self._seen_at[octave] = self._count
        self._count += 1
        if self._count % _REMEMBER == 0:
            for old in [o for o, at in self._seen_at.items() if at < self._count - _REMEMBER]:
                del self._unit_s[old], self._seen_at[old]

    def best_work(self) -> float:
        """Work beyond which each takes longer, a power of two; inf until that is seen.

        Once in a while half of it or twice, since what was good may have changed.
        """
        if not self._unit_s:
            return math.inf
        enough = min(self._unit_s.values()) * _WORSE
        best = max(octave for octave, unit_s in self._unit_s.items() if unit_s <= enough)
        turn = self._count % _TRY_EVERY
        if turn == 0:
            return 2.0 ** (best + 1)
        if turn == _TRY_EVERY // 2 and best:
            return 2.0 ** (best - 1)
        return math.inf if best == max(self._unit_s) else 2.0**best


@dataclass(slots=True)
class Line:
    """One learned line, in seconds. Sums are weighted by age.

    `work_share`, 0 to 1, of a first call's time is taken for that of its work.
    """

    work_share: float = 1.0
    count: int = 0
    observed_at: float = 0.0
    deviation: float = 0.0  # mean absolute relative error of the prediction
    a: float = 0.0  # seconds per call, >= 0
    b: float = 0.0  # seconds for one of the work, >= 0
    tells_work: bool = False  # whether batches of several sizes told a and b apart, of late
    curve: Curve = field(default_factory=Curve)
    _most_work: int = 0  # of the batches learned from
    _weight: float = 0.0
    _x: float = 0.0
    _y: float = 0.0
    _xx: float = 0.0
    _xy: float = 0.0
    _streak: int = 0  # > 0: outliers above in a row, < 0: below

    def observe(self, work: int, seconds: float, now: float) -> None:
        """Learns from one engine call; no work counts as 1."""
        work = max(1, work)
        if self.count:
            seconds = self._tamed(work, seconds)
        self.curve.observe(work, seconds)
        self._decay(_FORGET)
        self._most_work = max(self._most_work, work)
        self.count += 1
        self.observed_at = now
        self._weight += 1
        self._x += work
        self._y += seconds
        self._xx += work * work
        self._xy += work * seconds
        self.a, self.b = self._fit()

    def predict(self, work: float) -> float:
        """Expected seconds of one engine call of so much work."""
        return self.a + self.b * work

    def is_fresh(self, now: float, turns: int = 1) -> bool:
        """Whether a prediction may refuse: an old one must be allowed to prove itself wrong.

        `turns` buckets take turns, so that each is observed that much more rarely.
        """
        age = now - self.observed_at
        calls = _FRESH_CALLS if self.count > 1 else 1  # one alone may have been a stall
        return age <= _FRESH_S or age <= calls * turns * self.predict(1)

    def _fit(self) -> tuple[float, float]:
        x, y = self._x / self._weight, self._y / self._weight
        variance = self._xx / self._weight - x * x
        self.tells_work = variance >= 1e-6 * x * x
        if not self.tells_work:  # one batch size seen
            before = self.predict(x)
            share = self.b * x / before if before > 0 else self.work_share
            return (1 - share) * y, share * y / x
        b = (self._xy / self._weight - x * y) / variance
        if b < 0:
            return y, 0.0
        a = y - b * x
        return (a, b) if a >= 0 else (0.0, self._xy / self._xx)

    def _tamed(self, work: int, seconds: float) -> float:
        expected = max(self.predict(work), 1e-9)
        error = abs(seconds - expected) / expected
        self.deviation += (min(error, 1.0) - self.deviation) * (1 - _FORGET)
        is_far = not expected / _FAR <= seconds <= expected * _FAR
        if self.count < _TRUST_AFTER or not is_far or work > _WIDER * self._most_work:
            if self.count < _TRUST_AFTER and self._is_outdone(work, seconds):
                self._forget()
            self._streak = 0
            return seconds
        side = 1 if seconds > expected else -1
        self._streak = self._streak + side if self._streak * side > 0 else side
        if abs(self._streak) >= _REGIME_AFTER:
            self._forget()
            self._streak = 0
            return seconds
        return expected * _FAR if side > 0 else expected / _FAR

    def _is_outdone(self, work: int, seconds: float) -> bool:
        """Whether so much work or more in so little time show that what was seen was a stall."""
        return work * self._weight >= self._x and seconds * _FAR * self._weight < self._y

    def _forget(self) -> None:
        self._decay(0.0)
        self._most_work = 0
        self.curve = Curve()

    def _decay(self, factor: float) -> None:
        self._weight *= factor
        self._x *= factor
        self._y *= factor
        self._xx *= factor
        self._xy *= factor


@dataclass(slots=True)
class ServiceTime:
    """Lines by bucket. Unknown buckets are predicted as 0: nobody is refused on a guess.

    `work_share` as of a `Line`: 1 where the worst is to be expected of a first batch of much work.
    """

    work_share: float = 1.0
    _lines: dict[Hashable, Line] = field(default_factory=dict)

    def __iter__(self) -> Iterator[tuple[Hashable, Line]]:
        return iter(self._lines.items())

    def observe(self, bucket: Hashable, work: int, seconds: float, now: float) -> None:
        """Learns that a call of so much work took `seconds`."""
        line = self._lines.get(bucket)
        if line is None:
            if len(self._lines) >= _MAX_BUCKETS:
                del self._lines[next(iter(self._lines))]  # the one known for the longest time
            line = self._lines[bucket] = Line(self.work_share)
        line.observe(work, seconds, now)

    def learned(self) -> list[tuple[str, float, float]]:
        """Returns bucket, a and b of the buckets seen last, for people; from any thread."""
        known = sorted(self._lines.items(), key=lambda line: -line[1].observed_at)
        return [(_shown(bucket), line.a, line.b) for bucket, line in known[:_SHOWN_BUCKETS]]

    def line(self, bucket: Hashable) -> Line | None:
        """What is known of a bucket; None before its first call."""
        return self._lines.get(bucket)

    def predict(self, bucket: Hashable, work: float) -> float:
        """Expected seconds of one engine call of so much work."""
        line = self._lines.get(bucket)
        return line.predict(work) if line else 0.0


def _shown(bucket: Hashable) -> str:
    """A bucket of shapes as `16,16x8`, one shape for each input; anything else as its text."""
    if not isinstance(bucket, tuple):
        return str(bucket)
    return ",".join("x".join(map(str, s)) if isinstance(s, tuple) else str(s) for s in bucket)
