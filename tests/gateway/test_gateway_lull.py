"""A busy event loop lets calls wait for company, an idle one does not."""

import asyncio

import pytest

from services.gateway.policies.lull import CROWD, IDLE_TURNS, MAX_IDLE_S, PAUSE_S, Lulls
from tests.virtual_time import VirtualLoop, now, virtual_time

TURN_S = 0.001
LATEST = 0.02


def work(turns: int, turn_s: float = TURN_S) -> None:
    """Keeps the loop busy for so many turns, each of `turn_s`."""
    loop = asyncio.get_running_loop()
    assert isinstance(loop, VirtualLoop)
    if turns:
        loop.now += turn_s
        loop.call_soon(work, turns - 1, turn_s)


async def lull(lulls: Lulls | None = None) -> float:
    """Returns when the next one was, or when `LATEST` had passed since now."""
    called: asyncio.Future[float] = asyncio.get_running_loop().create_future()
    latest = now() + LATEST
    (lulls or Lulls()).call(lambda: called.set_result(now()), lambda: latest)
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


@virtual_time
async def test_a_turn_with_little_work_is_no_lull_once_one_without_any_is_known() -> None:
    lulls, start = Lulls(), now()
    little_s = MAX_IDLE_S * 0.9
    work(100, little_s)
    assert await lull(lulls) - start <= (IDLE_TURNS + 1) * little_s  # nothing shorter is known
    await asyncio.sleep(100 * little_s)
    await lull(lulls)
    start = now()
    work(50, little_s)
    assert await lull(lulls) - start == pytest.approx(50 * little_s)


@virtual_time
async def test_a_loop_whose_every_turn_became_longer_has_lulls_again() -> None:
    lulls, little_s = Lulls(), MAX_IDLE_S * 0.9
    await lull(lulls)
    work(10**6, little_s)
    waits = []
    for _ in range(200):
        start = now()
        await lull(lulls)
        waits.append(now() - start)
    assert waits[0] == pytest.approx(LATEST, rel=0.1)
    assert waits[-1] <= (IDLE_TURNS + 1) * little_s


@virtual_time
async def test_a_few_turns_without_work_are_no_lull() -> None:
    def work_after(turns: int) -> None:
        if turns:
            asyncio.get_running_loop().call_soon(work_after, turns - 1)
        else:
            work(5)

    work_after(IDLE_TURNS // 2)
    assert await lull() == pytest.approx(5 * TURN_S)


@virtual_time
async def test_all_who_wait_are_called_in_one_lull_but_for_whom_it_is_too_late() -> None:
    lulls, called = Lulls(), list[str]()
    lulls.call(lambda: called.append("late"), lambda: 2.5 * TURN_S)
    for name in "ab":
        lulls.call(lambda name=name: called.append(f"{name} {now():.3f}"), lambda: LATEST)
    lulls.call(lambda: lulls.call(lambda: called.append("again"), lambda: LATEST), lambda: LATEST)
    work(5)
    await asyncio.sleep(LATEST)
    assert called == ["late", "a 0.005", "b 0.005", "again"]


@virtual_time
async def test_in_a_crowd_a_lull_is_a_pause_in_which_nobody_came() -> None:
    lulls, loop = Lulls(), asyncio.get_running_loop()
    for number in range(2 * CROWD):
        loop.call_later(number * PAUSE_S / 2, lulls.arrive)
    await asyncio.sleep(CROWD * PAUSE_S / 2)
    last = loop.time() + (CROWD - 1) * PAUSE_S / 2
    assert last + PAUSE_S <= await lull(lulls) <= last + 2 * PAUSE_S


@virtual_time
async def test_in_a_crowd_that_never_pauses_nobody_waits_longer_than_he_would() -> None:
    lulls, loop = Lulls(), asyncio.get_running_loop()
    for number in range(CROWD + 1000):
        loop.call_later(max(0, number - CROWD) * PAUSE_S / 3, lulls.arrive)
    await asyncio.sleep(PAUSE_S)
    start = now()
    assert await lull(lulls) - start == pytest.approx(LATEST)


@virtual_time
async def test_a_crowd_that_has_gone_is_none() -> None:
    lulls = Lulls()
    for _ in range(CROWD):
        lulls.arrive()
    assert await lull(lulls) == PAUSE_S
    lulls.leave()
    assert await lull(lulls) == PAUSE_S
