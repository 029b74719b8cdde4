"""A busy event loop lets calls wait for company, an idle one does not."""

import asyncio

import pytest

from services.gateway.policies.lull import call_in_lull
from tests.virtual_time import VirtualLoop, now, virtual_time

TURN_S = 0.001
LATEST = 0.02


def work(turns: int) -> None:
    """Keeps the loop busy for so many turns of a millisecond."""
    loop = asyncio.get_running_loop()
    assert isinstance(loop, VirtualLoop)
    if turns:
        loop.now += TURN_S
        loop.call_soon(work, turns - 1)


async def lull() -> float:
    called: asyncio.Future[float] = asyncio.get_running_loop().create_future()
    call_in_lull(lambda: called.set_result(now()), lambda: LATEST)
    return await called


@virtual_time
async def test_a_loop_without_other_work_is_in_a_lull_at_once() -> None:
    assert await lull() == 0


@virtual_time
async def test_a_busy_loop_is_in_a_lull_when_its_work_is_done() -> None:
    work(5)
    assert await lull() == pytest.approx(5 * TURN_S)


@virtual_time
async def test_nobody_waits_for_ever_for_a_loop_that_is_always_busy() -> None:
    work(1000)
    assert await lull() == pytest.approx(LATEST, abs=2 * TURN_S)
