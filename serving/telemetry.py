"""The metrics of every server, in Prometheus' default registry; unit in each name.

Labels are few and bounded: a method, a status code, a model, a reason. Never a user or a message.
"""

from collections.abc import Callable, Iterator, Sequence

from prometheus_client import REGISTRY, Counter, Gauge, Metric
from prometheus_client.core import GaugeMetricFamily
from prometheus_client.registry import Collector

from fomofeed.type.v1 import type_pb2
from serving.histogram import Histogram

_FAST_S = (
    0.0001,
    0.00025,
    0.0005,
    0.001,
    0.0025,
    0.005,
    0.01,
    0.025,
    0.05,
    0.1,
    0.25,
    0.5,
    1,
    2.5,
    10,
)
_ROWS = (1, 2, 4, 8, 16, 32, 64, 128, 256)

RPC_DURATION = Histogram(
    "fomofeed_rpc_duration_seconds",
    "From a call's arrival at the interceptor to its answer.",
    "method",
    _FAST_S,
)
RPC_HANDLED = Counter(
    "fomofeed_rpc_handled", "Calls answered, by method and gRPC status.", ("method", "code")
)
RPC_TENANT = Counter("fomofeed_rpc_tenant", "Calls admitted, by tenant.", ("tenant",))
RPC_IN_FLIGHT = Gauge("fomofeed_rpc_in_flight", "Calls being answered now.")
PHASE = Gauge("fomofeed_server_phase", "1 for the phase that the server is in.", ("phase",))

QUEUE_DELAY = Histogram(
    "fomofeed_queue_delay_seconds",
    "Time that requests waited for their batch.",
    "model",
    _FAST_S,
)
QUEUE_ROWS = Gauge("fomofeed_queue_rows", "Rows that wait for a batch now.", ("model",))
BATCH_ROWS = Histogram("fomofeed_batch_rows", "Rows of one engine call.", "model", _ROWS)
ENGINE_DURATION = Histogram(
    "fomofeed_engine_duration_seconds", "Time of one engine call.", "model", _FAST_S
)
REFUSED = Counter(
    "fomofeed_queue_refused", "Requests refused or dropped, by reason.", ("model", "reason")
)
PROCESSES_REPLACED = Counter(
    "fomofeed_processes_replaced",
    "Processes beside the server that ended or hung and were replaced.",
    ("pool",),
)
MODEL = Gauge(
    "fomofeed_model_info",
    "1 for each model that answers here.",
    ("model", "version", "artifact_sha256"),
)


class Tenants:
    """Counts calls by tenant: by name those seen first, the others together.

    Callers choose the name: what is remembered of them is bounded.
    """

    def __init__(self, counter: Counter, most: int = 64) -> None:
        self._counter, self._most = counter, most
        self._known: dict[str, Counter] = {}

    def count(self, tenant: str) -> None:
        """Counts one call of a tenant."""
        counter = self._known.get(tenant)
        if counter is None:
            if len(self._known) < self._most:
                counter = self._known[tenant] = self._counter.labels(tenant)
            else:
                counter = self._counter.labels("(others)")
        counter.inc()


TENANTS = Tenants(RPC_TENANT)

Learned = Callable[[], Sequence[tuple[str, float, float]]]  # bucket, a, b


class ServiceTimes(Collector):
    """The learned service time a + b * rows of each model, read when somebody asks for it."""

    def __init__(self) -> None:
        self._learned: dict[str, Learned] = {}

    def watch(self, model: str, learned: Learned) -> None:
        """Tells what `learned` returns as the times of `model`, instead of what was told before."""
        self._learned[model] = learned

    def collect(self) -> Iterator[Metric]:
        """Called by Prometheus' registry, on whatever thread asks for the metrics."""
        metric = GaugeMetricFamily(
            "fomofeed_service_time_seconds",
            "Learned service time a + b * rows of a model, by parameter and shape bucket.",
            labels=("model", "bucket", "parameter"),
        )
        for model, learned in list(self._learned.items()):
            for bucket, a, b in learned():
                metric.add_metric((model, bucket, "a"), a)
                metric.add_metric((model, bucket, "b"), b)
        yield metric


SERVICE_TIMES = ServiceTimes()
REGISTRY.register(SERVICE_TIMES)


def announce(ref: type_pb2.ModelRef) -> None:
    """Tells which model answers from now on."""
    MODEL.labels(ref.model, ref.version, ref.artifact_sha256).set(1)


def withdraw(ref: type_pb2.ModelRef) -> None:
    """Takes an announcement back."""
    MODEL.labels(ref.model, ref.version, ref.artifact_sha256).set(0)
