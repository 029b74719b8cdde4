"""Runs all servers of a cluster together: up in their order, down in the reverse."""

import asyncio
from collections.abc import Sequence

from cluster.health import until_serving
from cluster.keeper import Keeper, Ready, Report, RestartConfig, ServerFailedError
from cluster.process import ServerPlan


class Supervisor:
    """The servers of one cluster. `run` starts them and returns when they have stopped."""

    def __init__(
        self,
        plans: Sequence[ServerPlan],
        config: RestartConfig,
        report: Report,
        ready: Ready = until_serving,
    ) -> None:
        self.all_serving = asyncio.Event()
        self.stop = asyncio.Event()
        self.hurry = asyncio.Event()  # ends the patience with servers that drain
        self._keepers = [Keeper(plan, config, report, ready) for plan in plans]

    async def run(self) -> None:
        """Keeps all servers until `stop` is set. Raises `ServerFailedError`, all stopped."""
        try:
            async with asyncio.TaskGroup() as group:
                for keeper in self._keepers:
                    group.create_task(keeper.keep(), name=keeper.plan.name)
                group.create_task(self._announce())
                group.create_task(self._stop_in_turn())
        except* ServerFailedError as failures:
            failure = failures.exceptions[0]
            assert isinstance(failure, ServerFailedError)
            raise failure from None

    async def _announce(self) -> None:
        stopping = asyncio.create_task(self.stop.wait())
        for keeper in self._keepers:
            serving = asyncio.create_task(keeper.has_served.wait())
            await asyncio.wait((serving, stopping), return_when=asyncio.FIRST_COMPLETED)
            serving.cancel()
        stopping.cancel()
        if not self.stop.is_set():
            self.all_serving.set()

    async def _stop_in_turn(self) -> None:
        """The last that started, the gateway, drains before those it calls; they then at once."""
        await self.stop.wait()
        if self._keepers:
            await self._keepers[-1].stop(self.hurry)
        rest = reversed(self._keepers[:-1])
        await asyncio.gather(*(keeper.stop(self.hurry) for keeper in rest))
