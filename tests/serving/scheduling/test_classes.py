"""What each class gets of a server that cannot do all: the scheduler alone, on a clock of its own.

An engine call of one row takes 100 ms; callers come as a Poisson process and give 950 ms.
"""

from collections import Counter
from collections.abc import Mapping
from contextlib import suppress

import numpy as np

from serving.errors import QueueFullError
from serving.request import Criticality
from serving.scheduling.queue import WEIGHTS
from serving.scheduling.scheduler import Batch, BatchingConfig, Scheduler

CALL_S = 0.1
TIME_S = 0.95
SECONDS = 1_000.0

Loads = Mapping[Criticality, float]  # of each class, in what the server can do


def shares_in_time(loads: Loads) -> tuple[dict[Criticality, float], Counter[Criticality]]:
    """Plays a load; returns the share of each class that was answered in time, and how many."""
    rng = np.random.default_rng(1)
    rate = sum(loads.values()) / CALL_S
    arrivals = np.cumsum(rng.exponential(1 / rate, int(rate * SECONDS)))
    chances = np.array(list(loads.values())) / sum(loads.values())
    classes = [list(loads)[kind] for kind in rng.choice(len(loads), len(arrivals), p=chances)]
    scheduler = Scheduler(BatchingConfig(max_batch_rows=1))
    in_time, running = Counter[Criticality](), None
    for now, criticality in zip(arrivals.tolist(), classes, strict=True):
        running = run_until(now, scheduler, running, in_time)
        entry = scheduler.entry(criticality, now, deadline=now + TIME_S, criticality=criticality)
        with suppress(QueueFullError):
            scheduler.admit(entry, now)
        if running is None:
            running, _ = scheduler.take(now)
    asked = Counter(classes)
    return {kind: in_time[kind] / asked[kind] for kind in loads}, in_time


def run_until(
    now: float, scheduler: Scheduler, running: Batch | None, in_time: Counter[Criticality]
) -> Batch | None:
    """Ends what ends before `now`, and begins what waits; returns what runs then."""
    while running is not None and (end := running.start + CALL_S) <= now:
        scheduler.finish(running, end)
        in_time.update(entry.item for entry in running.entries if end <= entry.deadline)
        running, _ = scheduler.take(end)
    return running


def test_critical_callers_hardly_notice_twice_the_load_that_a_server_can_bear() -> None:
    loads = {Criticality.CRITICAL: 0.4, Criticality.DEFAULT: 1.0, Criticality.SHEDDABLE: 0.6}
    shares, in_time = shares_in_time(loads)
    assert shares[Criticality.CRITICAL] >= 0.999
    assert in_time.total() >= 0.97 * SECONDS / CALL_S


def test_a_flood_of_critical_calls_leaves_the_others_their_shares() -> None:
    _, in_time = shares_in_time(dict.fromkeys(Criticality, 3.0))
    for kind in Criticality:
        share = WEIGHTS[kind] / sum(WEIGHTS.values())
        assert in_time[kind] >= 0.8 * share * SECONDS / CALL_S
