import pytest
from prometheus_client import CollectorRegistry, Gauge, Histogram, generate_latest

from cluster.metrics import LATENCY, QUEUE_ROWS, figures, quantile
from serving import telemetry


def page(seconds: dict[str, list[float]], waiting: int = 0) -> str:
    registry = CollectorRegistry()
    latency = Histogram(LATENCY, "", ("method",), buckets=(0.01, 0.1, 1), registry=registry)
    Gauge(QUEUE_ROWS, "", ("model",), registry=registry).labels("m").set(waiting)
    for method, values in seconds.items():
        for value in values:
            latency.labels(method).observe(value)
    return generate_latest(registry).decode()


def test_the_names_are_those_that_the_servers_export() -> None:
    assert telemetry.RPC_DURATION.name == LATENCY
    assert telemetry.QUEUE_ROWS._name == QUEUE_ROWS


def test_latencies_are_upper_bounds_over_all_methods_of_the_service() -> None:
    read = figures(page({"/a.S/A": [0.005] * 6, "/a.S/B": [0.05] * 4}, waiting=3))
    assert (read.call_count, read.waiting_rows) == (10, 3)
    assert (read.p50_s, read.p95_s) == (0.01, 0.1)


def test_health_checks_are_no_work_of_the_service() -> None:
    assert figures(page({"/grpc.health.v1.Health/Check": [0.001]})).call_count == 0


def test_a_server_that_was_never_called_has_no_latency() -> None:
    read = figures(page({}))
    assert (read.call_count, read.p50_s, read.p95_s) == (0, None, None)


def test_a_quantile_beyond_the_last_bucket_is_not_made_up() -> None:
    assert quantile({0.1: 1.0, float("inf"): 10.0}, 0.95) is None
    assert quantile({0.1: 1.0, float("inf"): 10.0}, 0.1) == pytest.approx(0.1)
