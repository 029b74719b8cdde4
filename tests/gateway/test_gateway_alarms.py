"""Many alarms share one timer of the loop, and ring as if each had its own."""

import asyncio

from hypothesis import given
from hypothesis import strategies as st

from services.gateway.alarms import Alarms
from serving.request import CallFacts, current, enter
from tests.virtual_time import now, run_virtually, virtual_time

TIMES = st.integers(0, 50).map(lambda tick: tick / 10)


def timers() -> int:
    return len(asyncio.get_running_loop()._scheduled)  # type: ignore[attr-defined]


@given(st.lists(st.tuples(TIMES, TIMES, TIMES), max_size=30))
def test_each_rings_once_at_its_time_unless_it_is_off(plan: list[tuple[float, ...]]) -> None:
    rung: list[tuple[float, int]] = []

    async def use(alarms: Alarms, number: int, set_at: float, after: float, off_at: float) -> None:
        await asyncio.sleep(set_at)
        alarm = alarms.at(now() + after, lambda: rung.append((now(), number)))
        await asyncio.sleep(off_at - set_at)
        alarm.turn_off()

    async def main() -> None:
        with Alarms() as alarms:
            users = (use(alarms, number, *times) for number, times in enumerate(plan))
            await asyncio.gather(*users)
            await asyncio.sleep(20)

    run_virtually(main())
    told = {number: when for when, number in rung}
    assert len(told) == len(rung)
    for number, (set_at, after, off_at) in enumerate(plan):
        due = set_at + after
        if number in told:
            assert abs(told[number] - due) < 1e-6
            assert due < off_at + 1e-6 or off_at < set_at + 1e-6
        else:
            assert due > off_at - 1e-6


@virtual_time
async def test_ten_thousand_that_are_turned_off_leave_a_timer_and_few_entries() -> None:
    with Alarms() as alarms:
        for _ in range(10_000):
            alarms.at(now() + 5, list).turn_off()
            assert timers() == 1
        assert len(alarms._heap) < 100
        await asyncio.sleep(6)
        assert timers() == 0


@virtual_time
async def test_who_leaves_leaves_no_timer_that_rings() -> None:
    rung: list[float] = []
    with Alarms() as alarms:
        alarms.at(1.0, lambda: rung.append(now()))
    await asyncio.sleep(2)
    assert rung == []


@virtual_time
async def test_each_rings_for_the_request_that_set_it_whoever_set_the_timer() -> None:
    rung: list[str] = []

    async def use(alarms: Alarms, tenant: str) -> None:
        enter(CallFacts(tenant=tenant))
        alarms.at(1.0, lambda: rung.append(current().tenant))

    with Alarms() as alarms:
        await asyncio.gather(use(alarms, "a"), use(alarms, "b"))
        await asyncio.sleep(2)
    assert rung == ["a", "b"]
