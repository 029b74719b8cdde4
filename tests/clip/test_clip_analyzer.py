"""The processes that read pictures: a caller who leaves, and one that is killed."""

import asyncio
import os
import signal
from collections.abc import AsyncIterator

import pytest

from bench.rivals.processes import descendants
from services.clip.analyzer import Analyzer
from services.clip.config import ClipConfig
from serving.errors import InvalidRequestError
from serving.media import sample_image


@pytest.fixture
async def analyzer() -> AsyncIterator[Analyzer]:
    config = ClipConfig(detect="never", cache_bytes=0, image_processes=1)
    async with Analyzer.open(config) as analyzer:
        yield analyzer


async def test_callers_who_leave_at_any_moment_cost_the_others_nothing(analyzer: Analyzer) -> None:
    expected = await analyzer.analyze(sample_image())
    for turns in range(40):
        leaving = asyncio.create_task(analyzer.analyze(sample_image()))
        for _ in range(turns):
            await asyncio.sleep(0)
        leaving.cancel()
        await asyncio.wait([leaving])
        assert leaving.cancelled() or leaving.result().tags == expected.tags
    answers = await asyncio.gather(*(analyzer.analyze(sample_image()) for _ in range(3)))
    assert [answer.tags for answer in answers] == [expected.tags] * 3


async def test_a_killed_process_costs_no_answer(analyzer: Analyzer) -> None:
    expected = await analyzer.analyze(sample_image())
    asking = [asyncio.create_task(analyzer.analyze(sample_image())) for _ in range(6)]
    await asyncio.wait(asking, return_when=asyncio.FIRST_COMPLETED)
    (pid,) = descendants(os.getpid())[1:]
    os.kill(pid, signal.SIGKILL)
    assert [(await answer).quality for answer in asking] == [expected.quality] * 6
    with pytest.raises(InvalidRequestError, match="image is 3 B of an unknown format"):
        await analyzer.analyze(b"abc")
