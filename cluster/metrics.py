"""Reads from a server's Prometheus page the few figures that a person asks for first."""

import asyncio
import urllib.request
from collections import defaultdict
from collections.abc import Mapping
from dataclasses import dataclass

from prometheus_client import Metric
from prometheus_client.parser import text_string_to_metric_families

from cluster.ports import HOST

LATENCY = "fomofeed_rpc_duration_seconds"
QUEUE_ROWS = "fomofeed_queue_rows"
MODEL = "fomofeed_model_info"
INFRASTRUCTURE = "/grpc."  # health checks and reflection are no work of the service


@dataclass(frozen=True, slots=True)
class Figures:
    """What one server has done since it started; latencies in s, upper bounds of their bucket."""

    call_count: int
    waiting_rows: int
    p50_s: float | None
    p95_s: float | None
    models: tuple[str, ...] = ()  # name and version of each that answers there


async def read_figures(port: int, timeout_s: float = 1.0) -> Figures | None:
    """The figures of the server whose metrics are on `port`; none when the page is not there."""
    url = f"http://{HOST}:{port}/metrics"
    try:
        return figures(await asyncio.to_thread(_get, url, timeout_s))
    except (OSError, ValueError):
        return None


def figures(page: str) -> Figures:
    """Reads a page of metrics. Raises `ValueError` when it is none."""
    families = {family.name: family for family in text_string_to_metric_families(page)}
    buckets = _buckets(families)
    queue = families[QUEUE_ROWS].samples if QUEUE_ROWS in families else ()
    models = families[MODEL].samples if MODEL in families else ()
    return Figures(
        call_count=int(buckets.get(float("inf"), 0)),
        waiting_rows=int(sum(sample.value for sample in queue)),
        p50_s=quantile(buckets, 0.50),
        p95_s=quantile(buckets, 0.95),
        models=tuple(f"{s.labels['model']} {s.labels['version']}" for s in models if s.value),
    )


def quantile(buckets: Mapping[float, float], share: float) -> float | None:
    """Upper bound of the bucket that holds the quantile; none without calls or beyond the last."""
    total = buckets.get(float("inf"), 0)
    reached = (bound for bound, count in sorted(buckets.items()) if count >= share * total)
    bound = next(reached, float("inf")) if total else float("inf")
    return None if bound == float("inf") else bound


def _buckets(families: Mapping[str, Metric]) -> dict[float, float]:
    """Cumulative counts by upper bound, over all methods of the service itself."""
    counts: dict[float, float] = defaultdict(float)
    for sample in families[LATENCY].samples if LATENCY in families else ():
        is_own = not sample.labels["method"].startswith(INFRASTRUCTURE)
        if sample.name == f"{LATENCY}_bucket" and is_own:
            counts[float(sample.labels["le"])] += sample.value
    return dict(counts)


def _get(url: str, timeout_s: float) -> str:
    with urllib.request.urlopen(url, timeout=timeout_s) as answer:
        return str(answer.read().decode())
