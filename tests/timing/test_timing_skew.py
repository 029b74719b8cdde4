"""The same posts by the path of training and by the path of serving."""

import asyncio
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any
from zoneinfo import ZoneInfo

import numpy as np
import pytest

from fomofeed.timing.v1 import timing_service_pb2 as pb
from fomofeed.timing.v1 import timing_service_pb2_grpc as pb_grpc
from services.timing.advisor import Advisor
from services.timing.config import TimingConfig
from services.timing.own_measure import histories_of
from services.timing.prior_file import Trained
from services.timing.rates import RateModel
from services.timing.servicer import TimingServicer
from serving.training.posts import read_events

ZONES = ("America/Sao_Paulo", "Asia/Kolkata", "Europe/Berlin", "Australia/Lord_Howe", "UTC")
CREATORS, POSTS = 20, 50
FIRST = datetime(2026, 1, 5, tzinfo=UTC)


@pytest.fixture
def rows() -> list[tuple[int, datetime, int]]:
    """A thousand posts over a year, summer time and all: creator, when, engagements."""
    rng = np.random.default_rng(1)
    minutes = np.sort(rng.integers(0, 365 * 24 * 60, CREATORS * POSTS)).tolist()
    gained = rng.poisson(20, CREATORS * POSTS).tolist()
    return [
        (index % CREATORS, FIRST + timedelta(minutes=minute), count)
        for index, (minute, count) in enumerate(zip(minutes, gained, strict=True))
    ]


def as_file(path: Path, rows: list[tuple[int, datetime, int]]) -> Path:
    lines = ["user_id,post_time,time_zone,engagements"]
    for creator, when, gained in rows:
        local = when.astimezone(ZoneInfo(ZONES[creator % len(ZONES)]))
        lines.append(f"{creator},{local.isoformat()},{ZONES[creator % len(ZONES)]},{gained}")
    path.write_text("\n".join(lines) + "\n", encoding="utf-8")
    return path


async def test_a_thousand_posts_count_alike_in_training_and_in_serving(
    serving_on: Any,
    repository: Path,
    trained: Trained,
    tmp_path: Path,
    rows: list[tuple[int, datetime, int]],
) -> None:
    learned_from = histories_of(read_events(as_file(tmp_path / "own.csv", rows)).posts)
    model = RateModel(trained.prior)
    config = TimingConfig(model_repository=repository, database=tmp_path / "timing.sqlite")
    async with Advisor(config) as advisor:
        servicer = TimingServicer(advisor, clock=lambda: FIRST)
        running = await serving_on([(pb_grpc.add_TimingServiceServicer_to_server, servicer)])
        stub = pb_grpc.TimingServiceStub(running.channel)
        for start in range(0, len(rows), 50):
            await asyncio.gather(
                *(record(stub, number, *rows[number]) for number in range(start, start + 50))
            )
        for creator in range(CREATORS):
            zone = ZONES[creator % len(ZONES)]
            answer = await stub.SuggestPostingTimes(
                pb.SuggestPostingTimesRequest(user_id=creator + 1, time_zone=zone, max_slots=168)
            )
            draws = model.draw(learned_from.posts[creator], learned_from.engagements[creator])
            told = np.percentile(draws, (10, 50, 90), axis=0)
            assert answer.post_count == POSTS
            assert len(answer.slots) == 168
            for slot in answer.slots:
                served = slot.relative_engagement
                assert [served.p10, served.p50, served.p90] == told[:, slot.hour_of_week].tolist()


async def record(stub: Any, number: int, creator: int, when: datetime, gained: int) -> None:
    request = pb.RecordPostOutcomeRequest(
        request_id=f"post {number}", user_id=creator + 1, engagements=float(gained)
    )
    request.post_time.FromDatetime(when)
    await stub.RecordPostOutcome(request)
