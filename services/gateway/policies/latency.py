"""How long a node has been taking: quantiles over its latest successful calls."""

from bisect import bisect_left, insort
from collections import deque


class LatencyWindow:
    """Quantiles of the last `size` durations, exact."""

    def __init__(self, expected_s: float, size: int = 256, enough: int = 20) -> None:
        """`expected_s` is answered until `enough` durations have been seen."""
        self._expected_s = expected_s
        self._size = size
        self._enough = enough
        self._latest: deque[float] = deque()
        self._sorted: list[float] = []

    def add(self, duration_s: float) -> None:
        """Takes in a duration; the oldest one leaves when the window is full."""
        if len(self._latest) == self._size:
            oldest = self._latest.popleft()
            del self._sorted[bisect_left(self._sorted, oldest)]
        self._latest.append(duration_s)
        insort(self._sorted, duration_s)

    @property
    def is_learned(self) -> bool:
        """Whether enough durations have been seen."""
        return len(self._sorted) >= self._enough

    def quantile_s(self, share: float) -> float:
        """The duration that `share` of the calls, 0 to 1, did not exceed."""
        count = len(self._sorted)
        if count < self._enough:
            return self._expected_s
        index = int(share * count)
        return self._sorted[index if index < count else -1]
