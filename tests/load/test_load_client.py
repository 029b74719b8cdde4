"""The open loop on virtual time: what it shows of a server, and what a closed loop does not."""

import asyncio
import math

import numpy as np
import pytest

from cluster.load.arrivals import constant
from cluster.load.client import GRACE_S, OpenLoop, closed_loop
from cluster.load.outcomes import OK
from cluster.load.summary import summarize
from tests.virtual_time import now, virtual_time

SERVICE_S = 0.002
STALL_S = 0.5


class StallingServer:
    """One call at a time, 2 ms each; call number 300 takes half a second."""

    def __init__(self) -> None:
        self._turn = asyncio.Lock()
        self.timeouts: list[float] = []

    async def __call__(self, index: int, timeout_s: float) -> int:
        self.timeouts.append(timeout_s)
        async with self._turn:
            await asyncio.sleep(STALL_S if len(self.timeouts) == 300 else SERVICE_S)
        return OK


@virtual_time
async def test_a_stall_that_the_closed_loop_hides_is_in_the_open_loops_p99() -> None:
    closed = await closed_loop(StallingServer(), callers=1, seconds=4, warm_up_s=0)
    assert closed.latencies.mean() < 2 * SERVICE_S
    assert np.quantile(closed.latencies, 0.99) < 1.01 * SERVICE_S

    opened = OpenLoop(StallingServer(), constant(250, 4), timeout_s=2)
    latency = (await opened.run(now())).latency
    assert np.quantile(latency, 0.99) > 0.9 * STALL_S
    assert (latency > 10 * SERVICE_S).mean() > 0.1


@virtual_time
@pytest.mark.parametrize("warm_up_s", [0.0, 0.1, 0.3, 0.45])
async def test_the_rate_of_a_closed_loop_does_not_jump_by_whole_batches(warm_up_s: float) -> None:
    async def batched(index: int, timeout_s: float) -> int:
        """Ends with all others, every 0.4 s."""
        await asyncio.sleep(0.4 - now() % 0.4)
        return OK

    closed = await closed_loop(batched, callers=8, seconds=1.0, warm_up_s=warm_up_s)
    assert len(closed.latencies) in (16, 24)  # what counting ends would have shown
    assert closed.rate == pytest.approx(8 / 0.4, rel=0.01)


@virtual_time
async def test_calls_are_sent_at_their_times_whatever_the_server_does() -> None:
    opened = OpenLoop(StallingServer(), constant(250, 4), timeout_s=2)
    outcomes = await opened.run(now() + 1.0)
    assert outcomes.sent == pytest.approx(outcomes.intended, abs=1e-9)
    assert summarize(outcomes, 4, slo_s=1).lag_p99_s == pytest.approx(0, abs=1e-9)


@virtual_time
async def test_the_deadline_counts_from_the_intended_time_of_a_late_call() -> None:
    server = StallingServer()
    opened = OpenLoop(server, np.array([0.0, 1.0, 1.2]), timeout_s=2)
    outcomes = await opened.run(now() - 1.0)  # as if the client had slept through the first second
    assert outcomes.sent == pytest.approx([1.0, 1.0, 1.2])
    assert server.timeouts == pytest.approx([1.0, 2.0, 2.0])
    assert outcomes.latency[0] == pytest.approx(1.0 + SERVICE_S)


@virtual_time
async def test_a_call_that_never_ends_is_given_up_after_its_grace() -> None:
    async def hang(index: int, timeout_s: float) -> int:
        await asyncio.sleep(math.inf if index == 1 else 0)
        return OK

    outcomes = await OpenLoop(hang, constant(10, 0.3), timeout_s=1).run(now())
    assert now() == pytest.approx(0.2 + 1 + GRACE_S)
    assert outcomes.counts() == {"OK": 2, "UNANSWERED": 1}


@virtual_time
async def test_each_process_sends_its_own_indices() -> None:
    seen: list[int] = []

    async def call(index: int, timeout_s: float) -> int:
        seen.append(index)
        return OK

    await OpenLoop(call, constant(10, 0.5), 1, first_index=1, index_step=3).run(now())
    assert seen == [1, 4, 7, 10, 13]


@virtual_time
async def test_an_empty_schedule_ends_at_once() -> None:
    assert len(await OpenLoop(StallingServer(), np.array([]), timeout_s=1).run(now())) == 0
