"""A node that begins to fail is told of in the log, one that fails now and then is no flood."""

import logging

import pytest

from services.gateway.policies.latency import LatencyWindow
from services.gateway.policies.watch import TOLD_EVERY_S, Watched
from tests.gateway.scripts import ANSWER, FOREVER, INTERNAL, LATE, REQUEST, Script
from tests.virtual_time import virtual_time


async def told(script: Script, calls: int, log: pytest.LogCaptureFixture) -> list[str]:
    log.set_level(logging.INFO, "services.gateway.policies.watch")
    watched = Watched(script, "ranker", LatencyWindow(0.05))
    for _ in range(calls):
        await watched(REQUEST, FOREVER)
    return [record.message for record in log.records]


@virtual_time
async def test_one_line_when_it_begins_to_fail_and_one_when_it_answers_again(
    caplog: pytest.LogCaptureFixture,
) -> None:
    script = Script([(1, ANSWER)] + [(1, INTERNAL)] * 20 + [(1, ANSWER)])
    assert await told(script, 30, caplog) == [
        "ranker fails: INTERNAL: broken",
        "ranker answers again, after INTERNAL",
    ]


@virtual_time
async def test_a_change_that_lasts_is_told_once_the_last_line_is_old_enough(
    caplog: pytest.LogCaptureFixture,
) -> None:
    script = Script([(1, INTERNAL), (1, ANSWER)])
    assert len(await told(script, int(TOLD_EVERY_S), caplog)) == 1
    caplog.clear()
    script = Script([(1, INTERNAL), (1, ANSWER)])
    assert len(await told(script, int(TOLD_EVERY_S) + 1, caplog)) == 2


@virtual_time
async def test_every_other_call_in_a_minute_gives_few_lines(
    caplog: pytest.LogCaptureFixture,
) -> None:
    script = Script([(0.1, LATE), (0.1, ANSWER)] * 300)
    assert 2 <= len(await told(script, 600, caplog)) <= 60 / TOLD_EVERY_S + 1
