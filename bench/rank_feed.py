"""What does ordering a feed cost? Writes docs/bench/rank_feed.md.

`python bench/rank_feed.py` asks a ranker over gRPC, server and client in this one process on one
core, for feeds of 10 to 10,000 candidates with all columns that it knows, and with the bytes of
32. Parsing, features, model, order and answer are in the time; the client's share is too. Then the
parts are run alone: parsing, the model's engine and writing the answer are the floor of any server.
"""

import asyncio
import os
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import grpc
import numpy as np
import onnx

from fomofeed.ranker.v1 import ranker_service_pb2 as pb
from fomofeed.ranker.v1 import ranker_service_pb2_grpc as pb_grpc
from fomofeed.type.v1 import type_pb2
from services.ranker.candidates import filtered, read_candidates
from services.ranker.config import RankerConfig
from services.ranker.features import COLUMN_COUNT, to_rows
from services.ranker.pages import to_response
from services.ranker.ranking import rank, tie_break
from services.ranker.scorer import Actions, Scorer
from services.ranker.servicer import SERVICE_NAME, RankerServicer
from services.ranker.weights import WeightProfile, read_profiles
from serving.engines.onnx import OnnxEngine
from serving.rpc.server import Server, ServerConfig

REPORT = Path("docs/bench/rank_feed.md")
ARTIFACT = Path("services/ranker/artifacts/feed-ranker.onnx")
SIZES = (10, 100, 1000, 10_000)
REPEATS, WARM_UP = 40, 5
WIDE = 32  # columns of a wide feed
UNKNOWN_FIELD = 1000  # a number that no field has
RANGES = {
    "quality_score": (0, 10),
    "hour_of_week": (0, 167),
    "follower_count": (0, 50_000),
    "avg_engagement": (0, 0.2),
    "is_moment": (0, 1),
    "has_video": (0, 1),
    "caption_length": (0, 300),
    "tag_count": (0, 10),
    "is_reply": (0, 1),
    "link_count": (0, 3),
    "mention_count": (0, 5),
    "caps_share": (0, 1),
    "age_hours": (0, 50),
    "seen": (0, 0),
}


@dataclass(frozen=True, slots=True)
class Row:
    """A feed's cost; CPU is the median of server and client together."""

    name: str
    count: int
    p50_ms: float
    p95_ms: float
    cpu_ms: float


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


async def measure() -> list[Row]:
    """Returns a row for each size, and one of all 10,000 answered."""
    config = RankerConfig()
    server_config = ServerConfig(metrics_port=None, lame_duck_s=0.0)
    stop, rows = asyncio.Event(), []
    async with (
        Server(server_config, "ranker", [SERVICE_NAME]) as server,
        Scorer(config) as scorer,
    ):
        servicer = RankerServicer(scorer, read_profiles(config.weights))
        server.mount(pb_grpc.add_RankerServiceServicer_to_server, servicer)
        serving = asyncio.create_task(server.serve(stop))
        async with grpc.aio.insecure_channel(f"127.0.0.1:{server.port}") as channel:
            stub = pb_grpc.RankerServiceStub(channel)
            for name, feed in feeds().items():
                rows += [await ask(stub, name, feed)]
        stop.set()
        await serving
    return rows


def feeds() -> dict[str, pb.RankFeedRequest]:
    """Returns what is asked for, by its name in the table."""
    most = SIZES[-1]
    found = {f"{count:,}": request(count) for count in SIZES}
    found[f"{most:,}, the bytes of {WIDE} columns"] = widened(request(most))
    for name, as_columns in (("all as columns", True), ("all as messages", False)):
        whole = request(most)
        whole.page_size, whole.explain, whole.as_columns = most, False, as_columns
        found[f"{most:,}, {name}"] = whole
    return found


def widened(feed: pb.RankFeedRequest) -> pb.RankFeedRequest:
    """Returns the feed with as many bytes more as further columns would have.

    They are a field that the contract does not know, which every parser reads and keeps.
    """
    size = 4 * len(feed.post_ids) * (WIDE - len(RANGES))
    more = np.random.default_rng(1).bytes(size)
    return pb.RankFeedRequest.FromString(
        feed.SerializeToString() + _varint(UNKNOWN_FIELD << 3 | 2) + _varint(size) + more
    )


def _varint(value: int) -> bytes:
    low, rest = value & 0x7F, value >> 7
    return bytes([low | 0x80]) + _varint(rest) if rest else bytes([low])


async def ask(stub: Any, name: str, feed: pb.RankFeedRequest) -> Row:
    """Asks for one feed again and again, after a few calls that do not count."""
    walls, cpus = [], []
    for repeat in range(WARM_UP + REPEATS):
        wall, cpu = time.perf_counter(), time.process_time()
        await stub.RankFeed(feed, wait_for_ready=True)
        if repeat >= WARM_UP:
            walls.append(time.perf_counter() - wall)
            cpus.append(time.process_time() - cpu)
    middle, high = (np.percentile(walls, (50, 95)) * 1000).tolist()
    return Row(name, len(feed.post_ids), middle, high, float(np.median(cpus) * 1000))


def stages() -> list[tuple[str, float]]:
    """Returns the CPU milliseconds of each part of a call with 10,000 candidates."""
    profile, engine = default_profile(), OnnxEngine(ARTIFACT)
    asked = widened(request(SIZES[-1]))
    wire = asked.SerializeToString()
    read = read_candidates(asked)
    kept, removed = filtered(read, profile)
    columns = kept.features()
    rows = to_rows(columns, len(kept))
    rates = engine.infer({"rows": rows})["actions"].astype(np.float64)
    values, ties = rates @ np.array(profile.actions), tie_break(kept.post_ids, 0, 0)
    feed = (values, kept.author_ids, kept.in_network, profile, ties)
    ranking, found = rank(*feed), Actions(rates, type_pb2.ModelRef())
    page = to_response(asked, kept, removed, ranking, found, profile)
    floor: dict[str, Callable[[], object]] = {
        f"parse {len(wire):,} bytes": lambda: pb.RankFeedRequest.FromString(wire),
        "the model's engine, all outputs": lambda: engine.infer({"rows": rows}),
        "write the answer, a page of 50 explained": page.SerializeToString,
    }
    more: dict[str, Callable[[], object]] = {
        "columns as arrays, filters": lambda: filtered(read_candidates(asked), profile),
        f"features, {rows.shape[1]} columns": lambda: to_rows(kept.features(), len(kept)),
        "order, diversity, ranks before and after": lambda: rank(*feed),
        "the page as messages": lambda: to_response(asked, kept, removed, ranking, found, profile),
    }
    lowest = [(name, _cpu_ms(part)) for name, part in floor.items()]
    rest = [(name, _cpu_ms(part)) for name, part in more.items()]
    total = ("**the floor: these three**", sum(cost for _, cost in lowest))
    everything = ("**all parts**", total[1] + sum(cost for _, cost in rest))
    return [*lowest, total, *rest, everything]


def default_profile() -> WeightProfile:
    """Returns the profile that a request without a name gets."""
    return read_profiles(RankerConfig().weights)["default"]


def hinge_count() -> int:
    """Returns the hinges of the served model."""
    constants = {c.name: c for c in onnx.load(ARTIFACT).graph.initializer}
    return int(constants["minus_knots"].dims[0])


def _cpu_ms(part: Callable[[], object]) -> float:
    times = []
    for _ in range(REPEATS):
        start = time.process_time_ns()
        part()
        times.append((time.process_time_ns() - start) / 1e6)
    return float(np.median(times))


TEXT = """
Server and client share one process that is bound to one core; CPU is of both, and what the wall
has above it went to other programs. A page of 50 is explained. The {known} columns are all
that the contract knows; the model makes {columns} of them, and {basis} with its hinges. The row of
{wide} columns carries the bytes of {wide}, which are sent, parsed and kept; to make arrays of the
{more} more would cost {a_column:.3f} ms each.

From 1,000 to 10,000 candidates the CPU grows {growth:.1f} times, less than in proportion: a call
without any costs about what the first row does. No candidate becomes a Python object, unless the
page wants it as a message.

CPU of the parts at 10,000 candidates and the bytes of {wide} columns, of which {kept:,} pass the
filters. What a call costs beyond them is the way: the client's side, gRPC, the event loop, the
thread of the engine.

"""


def line(row: Row) -> str:
    """Returns a row as Markdown."""
    figures = (row.cpu_ms, row.p50_ms, row.p95_ms)
    cells = " | ".join(f"{figure:.1f}" for figure in figures)
    return f"| {row.name} | {cells} | {row.count / row.cpu_ms:,.0f} |"


def explained(rows: list[Row]) -> str:
    """Returns the text with the figures of this run."""
    column = np.zeros((SIZES[-1], 10), "<f4")
    return TEXT.format(
        known=len(RANGES),
        columns=COLUMN_COUNT,
        basis=COLUMN_COUNT + hinge_count(),
        wide=WIDE,
        more=WIDE - len(RANGES),
        a_column=_cpu_ms(lambda: column.T.astype(np.float64)) / 10,
        growth=rows[3].cpu_ms / rows[2].cpu_ms,
        kept=len(filtered(read_candidates(request(SIZES[-1])), default_profile())[0]),
    )


def main() -> None:
    os.sched_setaffinity(0, {min(os.sched_getaffinity(0))})
    rows = asyncio.run(measure())
    lines = ["| candidates | CPU ms | p50 ms | p95 ms | candidates/ms of CPU |", f"|{' --- |' * 5}"]
    lines += [line(row) for row in rows]
    parts = ["| part | CPU ms |", "| --- | --- |"]
    parts += [f"| {name} | {milliseconds:.2f} |" for name, milliseconds in stages()]
    report = "\n".join(lines) + "\n" + explained(rows) + "\n".join(parts)
    REPORT.parent.mkdir(parents=True, exist_ok=True)
    REPORT.write_text(f"# RankFeed over gRPC\n\n{report}\n", encoding="utf-8")
    print(report)


if __name__ == "__main__":
    main()
