"""A histogram for what every call counts several times: Prometheus' own takes a lock at each.

A quarter of the cost, for one writer: counted on the event loop only, read from any thread.
"""

import math
from bisect import bisect_left
from collections.abc import Iterator, Sequence
from itertools import accumulate

from prometheus_client import REGISTRY, CollectorRegistry, Metric
from prometheus_client.core import HistogramMetricFamily
from prometheus_client.registry import Collector
from prometheus_client.utils import floatToGoString


class Series:
    """What was counted under one label value."""

    __slots__ = ("_bounds", "counts", "total")

    def __init__(self, bounds: Sequence[float]) -> None:
        self._bounds = bounds
        self.counts = [0] * (len(bounds) + 1)  # by bucket, the last without a bound
        self.total = 0.0

    def observe(self, value: float) -> None:
        """Counts a value in the bucket of the first bound that is not below it."""
        self.counts[bisect_left(self._bounds, value)] += 1
        self.total += value


class Histogram(Collector):
    """A histogram with one label. `buckets` are upper bounds, ascending; +Inf comes by itself."""

    def __init__(
        self,
        name: str,
        documentation: str,
        label: str,
        buckets: Sequence[float],
        registry: CollectorRegistry = REGISTRY,
    ) -> None:
        self.name, self._documentation, self._label = name, documentation, label
        self._bounds = tuple(buckets)
        bounds = (*self._bounds, math.inf)
        self._names = [floatToGoString(bound) for bound in bounds]  # type: ignore[no-untyped-call]
        self._series: dict[str, Series] = {}
        registry.register(self)

    def labels(self, value: str) -> Series:
        """Returns the series of a label value, to be kept: asking costs more than counting."""
        return self._series.setdefault(value, Series(self._bounds))

    def describe(self) -> Iterator[Metric]:
        """Names the metric, so that a second one of its name is refused."""
        yield HistogramMetricFamily(self.name, self._documentation, labels=(self._label,))

    def collect(self) -> Iterator[Metric]:
        """Called by Prometheus' registry, on whatever thread asks for the metrics."""
        metric = HistogramMetricFamily(self.name, self._documentation, labels=(self._label,))
        for value, series in list(self._series.items()):
            counts = zip(self._names, accumulate(series.counts), strict=True)
            buckets = [(name, float(count)) for name, count in counts]
            metric.add_metric((value,), buckets, series.total)
        yield metric
