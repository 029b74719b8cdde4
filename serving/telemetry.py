"""The metrics of every server, in Prometheus' default registry; unit in each name.

Labels are few and bounded: a method, a status code, a model, a reason. Never a user or a message.
"""

from prometheus_client import Counter, Gauge, Histogram

from fomofeed.type.v1 import type_pb2

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
    ("method",),
    buckets=_FAST_S,
)
RPC_HANDLED = Counter(
    "fomofeed_rpc_handled", "Calls answered, by method and gRPC status.", ("method", "code")
)
RPC_IN_FLIGHT = Gauge("fomofeed_rpc_in_flight", "Calls being answered now.")
PHASE = Gauge("fomofeed_server_phase", "1 for the phase that the server is in.", ("phase",))

QUEUE_DELAY = Histogram(
    "fomofeed_queue_delay_seconds",
    "Time that requests waited for their batch.",
    ("model",),
    buckets=_FAST_S,
)
QUEUE_ROWS = Gauge("fomofeed_queue_rows", "Rows that wait for a batch now.", ("model",))
BATCH_ROWS = Histogram("fomofeed_batch_rows", "Rows of one engine call.", ("model",), buckets=_ROWS)
ENGINE_DURATION = Histogram(
    "fomofeed_engine_duration_seconds", "Time of one engine call.", ("model",), buckets=_FAST_S
)
REFUSED = Counter(
    "fomofeed_queue_refused", "Requests refused or dropped, by reason.", ("model", "reason")
)
SERVICE_TIME = Gauge(
    "fomofeed_service_time_seconds",
    "Learned service time a + b * rows of a model, by parameter and shape bucket.",
    ("model", "bucket", "parameter"),
)
MODEL = Gauge(
    "fomofeed_model_info",
    "1 for each model that answers here.",
    ("model", "version", "artifact_sha256"),
)


def announce(ref: type_pb2.ModelRef) -> None:
    """Tells which model answers from now on."""
    MODEL.labels(ref.model, ref.version, ref.artifact_sha256).set(1)


def withdraw(ref: type_pb2.ModelRef) -> None:
    """Takes an announcement back."""
    MODEL.labels(ref.model, ref.version, ref.artifact_sha256).set(0)
