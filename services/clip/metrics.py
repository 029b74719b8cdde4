"""Metrics of this server beside those that every server has."""

from prometheus_client import Counter, Gauge

CACHE_BYTES = Gauge("fomofeed_clip_cache_bytes", "Memory that remembered analyses take.")
CACHE_ANSWERS = Counter(
    "fomofeed_clip_cache_answers",
    "Analyses by where they came from: computed, remembered, or shared with one that ran.",
    ("origin",),
)
