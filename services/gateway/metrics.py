"""The gateway's own metrics, beside those of every server. Labels are nodes of graph files: few."""

from prometheus_client import Counter, Gauge, Histogram

_BUCKETS_S = (0.001, 0.0025, 0.005, 0.01, 0.02, 0.04, 0.08, 0.12, 0.2, 0.5, 1, 5)

NODE_DURATION = Histogram(
    "fomofeed_gateway_node_duration_seconds",
    "Time of one call of a node, as the gateway saw it.",
    ("node",),
    buckets=_BUCKETS_S,
)
NODE_CALLS = Counter(
    "fomofeed_gateway_node_calls",
    "Calls of nodes by outcome: OK or the reason.",
    ("node", "reason"),
)
DEGRADATIONS = Counter(
    "fomofeed_gateway_degradations",
    "Answers that lack what a node would have said, by reason and substitute.",
    ("node", "reason", "substitute"),
)
RETRIES = Counter("fomofeed_gateway_retries", "Second and later attempts.", ("node",))
BREAKER_OPEN = Gauge(
    "fomofeed_gateway_breaker_open", "1 while a node's breaker is open.", ("node",)
)
CACHE_HITS = Counter(
    "fomofeed_gateway_cache_hits", "Calls of nodes answered from memory.", ("node",)
)
CACHE_MISSES = Counter(
    "fomofeed_gateway_cache_misses", "Calls of cached nodes that had to be made.", ("node",)
)
CACHE_BYTES = Gauge("fomofeed_gateway_cache_bytes", "Size of all remembered answers.")
SHARED = Counter(
    "fomofeed_gateway_shared_calls",
    "Calls that waited for another's on the same request.",
    ("node",),
)
BATCH_ROWS = Histogram(
    "fomofeed_gateway_batch_rows",
    "Requests that travelled in one call of a coalesced node.",
    ("node",),
    buckets=(1, 2, 4, 8, 16, 32),
)
BATCH_WAIT = Histogram(
    "fomofeed_gateway_batch_wait_seconds",
    "Longest time that a request waited for the call it travelled in.",
    ("node",),
    buckets=_BUCKETS_S,
)
HEDGES = Counter("fomofeed_gateway_hedges", "Calls made a second time for being slow.", ("node",))
REFUSED = Counter(
    "fomofeed_gateway_refused", "Calls refused because a node had no room for them.", ("node",)
)
LIMIT = Gauge(
    "fomofeed_gateway_limit", "Calls of a node that may run at once, as learned.", ("node",)
)
