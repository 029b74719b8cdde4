"""What does ordering a feed cost? Writes docs/bench/rank_feed.md.

`python bench/rank_feed.py` asks a ranker over gRPC, server and client in this one process, for
feeds of 10 to 10,000 candidates with all ten columns that it knows, explained pages of 50. Parsing,
features, model, order and answer are in the time; the client's share is too.
"""

import asyncio
import time
from pathlib import Path

import grpc
import numpy as np

from fomofeed.ranker.v1 import ranker_service_pb2 as pb
from fomofeed.ranker.v1 import ranker_service_pb2_grpc as pb_grpc
from services.ranker.config import RankerConfig
from services.ranker.scorer import Scorer
from services.ranker.servicer import SERVICE_NAME, RankerServicer
from services.ranker.weights import read_profiles
from serving.rpc.server import Server, ServerConfig

REPORT = Path("docs/bench/rank_feed.md")
SIZES = (10, 100, 1000, 10_000)
REPEATS = 30
RANGES = {
    "quality_score": (0, 10),
    "hour_of_week": (0, 167),
    "follower_count": (0, 50_000),
    "avg_engagement": (0, 0.2),
    "is_moment": (0, 1),
    "has_video": (0, 1),
    "caption_length": (0, 300),
    "tag_count": (0, 10),
    "age_hours": (0, 50),
    "seen": (0, 0),
}


def request(count: int) -> pb.RankFeedRequest:
    """Returns a feed of random candidates, five posts an author."""
    rng = np.random.default_rng(count)
    columns = [rng.uniform(low, high, count) for low, high in RANGES.values()]
    return pb.RankFeedRequest(
        post_ids=range(1, count + 1),
        author_ids=rng.integers(1, count // 5 + 2, count).tolist(),
        in_network=(rng.random(count) < 0.7).tolist(),
        feature_names=list(RANGES),
        features=np.stack(columns, axis=1).astype("<f4").tobytes(),
        page_size=50,
        explain=True,
    )


async def measure() -> list[str]:
    """Returns the rows of the table."""
    config = RankerConfig()
    server_config = ServerConfig(metrics_port=None, lame_duck_s=0.0)
    stop, lines = asyncio.Event(), []
    async with (
        Server(server_config, "ranker", [SERVICE_NAME]) as server,
        Scorer(config) as scorer,
    ):
        servicer = RankerServicer(scorer, read_profiles(config.weights))
        server.mount(pb_grpc.add_RankerServiceServicer_to_server, servicer)
        serving = asyncio.create_task(server.serve(stop))
        async with grpc.aio.insecure_channel(f"127.0.0.1:{server.port}") as channel:
            stub = pb_grpc.RankerServiceStub(channel)
            for count in SIZES:
                feed, seconds = request(count), []
                for _ in range(REPEATS):
                    start = time.perf_counter()
                    await stub.RankFeed(feed, wait_for_ready=True)
                    seconds.append(time.perf_counter() - start)
                middle, high = np.percentile(seconds, (50, 95)) * 1000
                lines.append(f"| {count:,} | {middle:.1f} | {high:.1f} | {count / middle:,.0f} |")
        stop.set()
        await serving
    return lines


def main() -> None:
    head = ["| candidates | p50 ms | p95 ms | candidates/ms |", f"|{' --- |' * 4}"]
    table = "\n".join([*head, *asyncio.run(measure())])
    REPORT.parent.mkdir(parents=True, exist_ok=True)
    REPORT.write_text(f"# RankFeed over gRPC\n\n{table}\n", encoding="utf-8")
    print(table)


if __name__ == "__main__":
    main()
