"""Hedging: a second call for the slowest few, to another replica, the first answer wins.

The C core ignores a hedging policy in the service config, so it is done here. The second call
starts when the first has taken longer than the node's observed p95, which by itself makes it 1 in
20; a budget of 5 % keeps that true while a whole service is slow. The loser is cancelled on the
wire, and leaves its server's queue. Only for idempotent nodes.
"""

import asyncio
from collections.abc import Callable
from dataclasses import replace

from google.protobuf.message import Message

from services.gateway.outcome import Call, Outcome
from services.gateway.policies.budget import Budget
from services.gateway.policies.latency import LatencyWindow

BUDGET_SHARE = 0.05  # of calls


class Hedged:
    """Calls twice when once takes too long. `call` must reach another replica the second time."""

    def __init__(
        self,
        call: Call,
        latency: LatencyWindow,
        budget: Budget,
        on_hedge: Callable[[], None] = lambda: None,
    ) -> None:
        self._call = call
        self._latency = latency
        self._budget = budget
        self._on_hedge = on_hedge

    async def __call__(self, request: Message, deadline: float) -> Outcome:
        """Returns the first answer; when both fail, the first failure."""
        self._budget.deposit()
        usual_s = self._latency.quantile_s(0.95)
        first = asyncio.ensure_future(self._call(request, deadline))
        try:
            await asyncio.wait([first], timeout=usual_s)
            left_s = deadline - asyncio.get_running_loop().time()
            if first.done() or left_s <= 0 or not self._budget.try_spend():
                return await first
        except asyncio.CancelledError:
            await _stop([first])
            raise
        self._on_hedge()
        return await self._race(first, asyncio.ensure_future(self._call(request, deadline)))

    async def _race(
        self, first: asyncio.Future[Outcome], second: asyncio.Future[Outcome]
    ) -> Outcome:
        both = [first, second]
        try:
            await asyncio.wait(both, return_when=asyncio.FIRST_COMPLETED)
            winner = next((one for one in both if one.done() and _answered(one)), None)
            if winner is None:  # the one that is done has failed: the other may still answer
                await asyncio.wait(both)
                winner = next((one for one in both if _answered(one)), first)
            return replace(winner.result(), attempts=2)
        finally:
            await _stop(both)


def _answered(call: asyncio.Future[Outcome]) -> bool:
    return call.result().answer is not None


async def _stop(calls: list[asyncio.Future[Outcome]]) -> None:
    """Cancels what still runs and waits for its end, so that nothing outlives the request."""
    running = [call for call in calls if not call.done()]
    for call in running:
        call.cancel()
    if running:
        await asyncio.wait(running)
