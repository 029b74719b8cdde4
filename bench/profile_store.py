"""How fast does the profile store take and give? Writes docs/bench/profile_store.md.

`python bench/profile_store.py` fills a fresh SQLite database with simulated traffic (posts, their
impressions and engagements, many users a message) and then reads random users. Store alone, one
thread, no gRPC; flushed to disk after each message of 1,000 events.
"""

import argparse
import time
from contextlib import closing
from pathlib import Path
from tempfile import TemporaryDirectory

import numpy as np

from fomofeed.profile.v1 import profile_service_pb2 as pb
from services.profile.events import Action, Message
from services.profile.sqlite.store import Store

REPORT = Path("docs/bench/profile_store.md")
EVENTS_A_MESSAGE = 1000
START_US = 1_767_225_600_000_000  # 2026-01-01
KINDS = np.array([pb.EVENT_KIND_POST, pb.EVENT_KIND_IMPRESSION, pb.EVENT_KIND_LIKE])
SHARES = (0.05, 0.75, 0.2)
READS = 5000


def messages(rng: np.random.Generator, users: int, events: int) -> list[Message]:
    """Draws messages; a user has about as many posts as events of the kind."""
    made = []
    for number in range(events // EVENTS_A_MESSAGE):
        size = EVENTS_A_MESSAGE
        kinds = rng.choice(KINDS, size, p=SHARES).tolist()
        user_ids = rng.integers(1, users + 1, size).tolist()
        post_ids = rng.integers(1, 30, size).tolist()
        times = (START_US + rng.integers(0, 10**13, size)).tolist()
        actions = tuple(
            Action(user, kind, post, when, 1.0)
            for kind, user, post, when in zip(kinds, user_ids, post_ids, times, strict=True)
        )
        made.append(Message(f"message-{number}", number.to_bytes(32, "big"), (), actions))
    return made


def ingest_seconds(store: Store, batch: list[Message]) -> tuple[float, float]:
    """Returns the time on the wall and on the processor."""
    start, start_cpu = time.perf_counter(), time.process_time()
    for message in batch:
        store.ingest([message])
    return time.perf_counter() - start, time.process_time() - start_cpu


def read_milliseconds(store: Store, rng: np.random.Generator, users: int) -> list[float]:
    """Returns p50, p99 and the longest of `READS` reads of random users."""
    seconds = []
    for user_id in rng.integers(1, users + 1, READS).tolist():
        start = time.perf_counter()
        store.profile(user_id)
        seconds.append(time.perf_counter() - start)
    return [float(value) * 1000 for value in np.percentile(seconds, (50, 99, 100))]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--users", type=int, default=10_000)
    parser.add_argument("--events", type=int, default=200_000)
    options = parser.parse_args()
    rng = np.random.default_rng(1)
    batch = messages(rng, options.users, options.events)
    lines = [
        "| database | events/s | events/CPU s | read p50 ms | p99 ms | max ms |",
        f"|{' --- |' * 6}",
    ]
    for name, is_synced in (("synced", True), ("not synced", False)):
        with TemporaryDirectory() as folder:
            path = Path(folder) / "profile.sqlite"
            with closing(Store(path, is_synced=is_synced)) as store:
                seconds, cpu_seconds = ingest_seconds(store, batch)
                reads = read_milliseconds(store, rng, options.users)
        cells = " | ".join(f"{value:.2f}" for value in reads)
        rates = " | ".join(f"{options.events / spent:,.0f}" for spent in (seconds, cpu_seconds))
        lines.append(f"| {name} | {rates} | {cells} |")
        print(lines[-1], flush=True)
    title = f"# Profile store: {options.events:,} events of {options.users:,} users\n\n"
    REPORT.parent.mkdir(parents=True, exist_ok=True)
    REPORT.write_text(title + "\n".join(lines) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
