"""Client channels: how every caller of this house connects to a server.

A frozen peer is found in under 2 s only with all three ping options set: keepalive alone waits
for `grpc.http2.ping_timeout_ms`, 60 s by default. There is no retry policy here: retries have one
owner, the gateway; the C core's transparent retries (streams that no server saw) stay on.
Deadlines are passed with each call, never in the service config.

Replicas share calls by their speed, as `serving.rpc.load_report` tells it; those that tell nothing
(all, where servers are not ours) get the mean, so without reports calls go round robin.
"""

import json

import grpc
from google.protobuf.message import DecodeError
from google.rpc import status_pb2

STATUS_DETAILS_KEY = "grpc-status-details-bin"
MAX_MESSAGE_BYTES = 32 * 1024 * 1024

_OPTIONS = (
    ("grpc.keepalive_time_ms", 1000),
    ("grpc.keepalive_timeout_ms", 500),
    ("grpc.http2.ping_timeout_ms", 500),
    ("grpc.keepalive_permit_without_calls", 1),
    ("grpc.http2.max_pings_without_data", 0),
    ("grpc.initial_reconnect_backoff_ms", 100),
    ("grpc.min_reconnect_backoff_ms", 500),  # the time one attempt may take
    ("grpc.max_reconnect_backoff_ms", 800),  # jitter of a fifth keeps it below 1 s
    ("grpc.max_receive_message_length", MAX_MESSAGE_BYTES),
    ("grpc.max_send_message_length", MAX_MESSAGE_BYTES),
    ("grpc.lb_policy_name", "round_robin"),
)


_WEIGHTS = {  # gRFC A58
    "blackoutPeriod": "0s",  # a server that is cold tells nothing by itself
    "weightUpdatePeriod": "1s",
    "weightExpirationPeriod": "180s",
    "errorUtilizationPenalty": 0.0,  # failures are in what is told
}
_OUTLIERS = "outlier_detection_experimental"  # gRFC A50
_EJECTION = {
    "interval": "1s",
    "baseEjectionTime": "5s",  # times the number of ejections in a row
    "maxEjectionTime": "60s",
    "maxEjectionPercent": 30,  # one of two or three, two of four
    "failurePercentageEjection": {
        "threshold": 90,  # of the calls; what all replicas refuse is no outlier's doing
        "enforcementPercentage": 100,
        "minimumHosts": 2,
        "requestVolume": 10,  # in one interval
    },
    "childPolicy": [{"weighted_round_robin": _WEIGHTS}],
}


def open_channel(target: str, *, health_service: str | None = "") -> grpc.aio.Channel:
    """Opens a channel to `target` (`dns:///name:port`, `ipv4:a:p,b:p`, `host:port`).

    Calls are shared, by speed, among the addresses whose `grpc.health.v1` answers SERVING for
    `health_service` ("" = the whole server); None for servers without health checking. One of
    several that fails nine calls of ten is left out for a while.
    """
    config: dict[str, object] = {"loadBalancingConfig": [{_OUTLIERS: _EJECTION}]}
    if health_service is not None:
        config["healthCheckConfig"] = {"serviceName": health_service}
    options = [*_OPTIONS, ("grpc.service_config", json.dumps(config))]
    return grpc.aio.insecure_channel(target, options=options)


def status_of(error: grpc.aio.AioRpcError) -> status_pb2.Status:
    """Returns the `google.rpc.Status` that a failed call carried, or one made of its code."""
    for key, value in error.trailing_metadata() or ():
        if key == STATUS_DETAILS_KEY:
            try:
                return status_pb2.Status.FromString(
                    value if isinstance(value, bytes) else value.encode()
                )
            except DecodeError:
                break
    return status_pb2.Status(code=error.code().value[0], message=error.details() or "")
