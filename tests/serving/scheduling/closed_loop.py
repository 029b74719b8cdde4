"""Callers who ask again when they are answered, before a scheduler on a clock of its own."""

import heapq
from collections.abc import Callable, Sequence

import numpy as np

from serving.scheduling.scheduler import BatchingConfig, Scheduler

SECONDS = 100.0
_NOISE = 0.02  # of an engine call
_THINK_S = 0.002  # the mean of what a caller takes to ask again


def closed_loop(
    callers: int, seconds: Callable[[int, int], float], buckets: Sequence[int], max_rows: int
) -> tuple[float, float]:
    """Plays callers of one instance that takes `seconds(bucket, rows)`, each with any bucket.

    Returns the rows a second and the 99th percentile of the latency, without the first tenth.
    """
    rng = np.random.default_rng(1)
    scheduler = Scheduler(BatchingConfig(max_batch_rows=max_rows))
    answered = list[tuple[float, float]]()  # when, and after how long
    coming = [(0.0, int(rng.choice(buckets))) for _ in range(callers)]
    now = 0.0
    while now < SECONDS:
        while coming and coming[0][0] <= now:
            at, bucket = heapq.heappop(coming)
            scheduler.admit(scheduler.entry((at, bucket), at, bucket=bucket), at)
        batch, _ = scheduler.take(now)
        if batch is None:
            now = coming[0][0]
            continue
        now += seconds(batch.entries[0].item[1], batch.rows) * rng.lognormal(0, _NOISE)
        scheduler.finish(batch, now)
        answered += [(now, now - entry.arrival) for entry in batch.entries]
        for _ in batch.entries:
            heapq.heappush(coming, (now + rng.exponential(_THINK_S), int(rng.choice(buckets))))
    steady = [latency for at, latency in answered if at > SECONDS / 10]
    return len(steady) / (SECONDS * 0.9), float(np.quantile(steady, 0.99))
