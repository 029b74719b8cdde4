"""Beside Prometheus' own histogram: what is scraped must be the same."""

import random

import prometheus_client
import pytest
from prometheus_client import CollectorRegistry, generate_latest

from serving.histogram import Histogram

BUCKETS = (0.25, 1, 2.5, 10)


def test_what_is_scraped_is_what_prometheus_own_histogram_tells() -> None:
    ours, theirs = CollectorRegistry(), CollectorRegistry()
    histogram = Histogram("seconds", "Of calls.", "method", BUCKETS, registry=ours)
    twin = prometheus_client.Histogram(
        "seconds", "Of calls.", ("method",), buckets=BUCKETS, registry=theirs
    )
    random.seed(1)
    values = [0.0, -1.0, *BUCKETS, 1e9, *(random.expovariate(0.5) for _ in range(200))]
    for at, value in enumerate(values):
        for kind in (histogram, twin):
            kind.labels("even" if at % 2 else 'odd "\n').observe(value)
    created = "seconds_created"
    lines = generate_latest(theirs).decode().splitlines()
    assert generate_latest(ours).decode().splitlines() == [x for x in lines if created not in x]


def test_a_series_that_was_only_asked_for_tells_zeros() -> None:
    registry = CollectorRegistry()
    Histogram("rows", "Of a batch.", "model", BUCKETS, registry=registry).labels("m")
    assert registry.get_sample_value("rows_count", {"model": "m"}) == 0
    assert registry.get_sample_value("rows_bucket", {"model": "m", "le": "2.5"}) == 0


def test_a_name_is_taken_once() -> None:
    registry = CollectorRegistry()
    Histogram("rows", "Of a batch.", "model", BUCKETS, registry=registry)
    with pytest.raises(ValueError, match="Duplicated"):
        Histogram("rows", "Of a batch.", "model", BUCKETS, registry=registry)
