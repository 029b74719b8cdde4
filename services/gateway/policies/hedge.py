"""Hedging: a second call for the slowest few, to another replica, the first answer wins.

The C core ignores a hedging policy in the service config, so it is done here. The second call
starts when the first has taken longer than the node's observed p95, which by itself makes it 1 in
20; a budget of 5 % keeps that true while a whole service is slow. The loser is cancelled on the
wire, and leaves its server's queue. A node that is full is not asked twice: it is slow because it
is asked too often already. Only for idempotent nodes.

The first call runs in its caller's task, so that the nineteen of twenty that need no second one pay
for a timer and no more. A second call that wins cancels that task, and takes the cancellation back.
"""

import asyncio
from collections.abc import Callable
from dataclasses import dataclass, replace

from google.protobuf.message import Message

from services.gateway.alarms import Alarms
from services.gateway.interruption import Interruption
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
        has_room: Callable[[], bool] = lambda: True,
    ) -> None:
        """`has_room` says whether the node can bear a call that nobody needs."""
        self._call = call
        self._latency = latency
        self._budget = budget
        self._on_hedge = on_hedge
        self._has_room = has_room
        self._alarms = Alarms()

    async def __call__(self, request: Message, deadline: float) -> Outcome:
        """Returns the first answer; when both fail, the first failure."""
        self._budget.deposit()
        loop = asyncio.get_running_loop()
        race = _Race(self._second, request, deadline, Interruption(loop))
        began = loop.time()
        alarm = self._alarms.at(began + self._latency.quantile_s(0.95), race.start_second)
        try:
            first: Outcome | None = await self._call(request, deadline)
        except BaseException:
            if not race.loss.end():
                await race.stop()
                raise
            first = None
            self._latency.add(loop.time() - began)  # at least; or p95 would be that of quick calls
        else:
            race.loss.end()
        finally:
            alarm.turn_off()
        return first if race.second is None and first is not None else await race.winner(first)

    def _second(self, request: Message, deadline: float) -> asyncio.Task[Outcome] | None:
        """Makes the second call, if there is time and room for it and the budget allows it."""
        loop = asyncio.get_running_loop()
        if deadline <= loop.time() or not self._has_room() or not self._budget.try_spend():
            return None
        self._on_hedge()
        return loop.create_task(self._call(request, deadline))


@dataclass(slots=True)
class _Race:
    """A first call, in the task that made this, and the second one, once it is made."""

    make_second: Callable[[Message, float], asyncio.Task[Outcome] | None]
    request: Message
    deadline: float
    loss: Interruption  # of the first call
    second: asyncio.Task[Outcome] | None = None

    def start_second(self) -> None:
        self.second = self.make_second(self.request, self.deadline)
        if self.second is not None:
            self.second.add_done_callback(self._second_ended)

    def _second_ended(self, second: asyncio.Task[Outcome]) -> None:
        if not second.cancelled() and _answered(second):
            self.loss.interrupt()

    async def winner(self, first: Outcome | None) -> Outcome:
        """Returns the answer of one of two calls; `first` is None for one that has lost."""
        assert self.second is not None
        try:
            if first is None or first.answer is None:
                await asyncio.wait([self.second])
                first = self.second.result() if first is None or _answered(self.second) else first
        finally:
            await self.stop()
        return replace(first, attempts=2)

    async def stop(self) -> None:
        """Cancels the second call and waits for its end, so that nothing outlives the request."""
        if self.second is not None and not self.second.done():
            self.second.cancel()
            await asyncio.wait([self.second])


def _answered(call: asyncio.Task[Outcome]) -> bool:
    return call.result().answer is not None
