"""Replicas with a queue each and a client that weighs them, on the virtual clock.

The client is gRFC A58 in small: once a second it takes the weight that each replica told with its
latest answer, and gives calls by smooth weighted round robin.
"""

import asyncio
from collections import Counter
from collections.abc import Awaitable, Callable, Sequence
from random import Random

import grpc

from fomofeed.type.v1 import type_pb2
from serving.rpc.load_report import Entries, LoadReport
from serving.rpc.server import ServerConfig
from tests.virtual_time import now

Ask = Callable[[], Awaitable[None]]

UPDATE_S = 1.0
LEAST, MOST = 0.01, 10.0  # of the mean weight


def weight(entries: Entries) -> float:
    """What a client makes of a report; 0 without one."""
    if not entries:
        return 0.0
    ((_, value),) = entries
    report = type_pb2.LoadReport.FromString(value)
    return report.rps_fractional / report.application_utilization


class Replica:
    """Serves one call after the other in `service_s` on average; all others wait."""

    def __init__(self, service_s: float, random: Random) -> None:
        self.service_s = service_s
        self.told = 0.0
        self._report = LoadReport(after_s=0.0, over_s=ServerConfig().load_report_over_s)
        self._random = random
        self._engine = asyncio.Lock()

    async def __call__(self) -> None:
        began = now()
        self._report.begin(began)
        try:
            async with self._engine:
                queued_s = now() - began
                await asyncio.sleep(self._random.expovariate(1 / self.service_s))
        except asyncio.CancelledError:
            self._report.end(now(), grpc.StatusCode.CANCELLED, 0.0, 0.0)
            raise
        self.told = weight(self._report.end(now(), grpc.StatusCode.OK, now() - began, queued_s))


class Client:
    """Calls by weight; notes who was called, and how long each call took."""

    def __init__(self, replicas: Sequence[Replica]) -> None:
        self.replicas = replicas
        self.weights = [1.0] * len(replicas)
        self.calls: Counter[int] = Counter()
        self.durations: list[float] = []
        self._credit = [0.0] * len(replicas)
        self._random = Random(3)

    def share(self, index: int) -> float:
        return self.calls[index] / self.calls.total()

    async def call(self) -> None:
        """Calls one of them."""
        self._credit = [a + b for a, b in zip(self._credit, self.weights, strict=True)]
        index = max(range(len(self._credit)), key=self._credit.__getitem__)
        self._credit[index] -= sum(self.weights)
        self.calls[index] += 1
        await self.replicas[index]()

    def _weigh(self) -> None:
        told = [replica.told for replica in self.replicas if replica.told]
        if len(told) > 1:
            mean = sum(told) / len(told)
            self.weights = [
                min(MOST * mean, max(LEAST * mean, replica.told)) if replica.told else mean
                for replica in self.replicas
            ]

    @property
    def p99_s(self) -> float:
        return sorted(self.durations)[len(self.durations) * 99 // 100]

    async def run(
        self, rate: float, seconds: float, is_weighing: bool = True, ask: Ask | None = None
    ) -> None:
        """Sends Poisson arrivals; returns when all have been answered. Forgets what was before.

        `ask` is what each does, `call` if it is None.
        """
        self.calls.clear()
        self.durations.clear()
        end, update_at = now() + seconds, now()
        async with asyncio.TaskGroup() as group:
            while now() < end:
                if is_weighing and now() >= update_at:
                    self._weigh()
                    update_at = now() + UPDATE_S
                group.create_task(self._timed(ask or self.call))
                await asyncio.sleep(self._random.expovariate(rate))

    async def _timed(self, ask: Ask) -> None:
        began = now()
        await ask()
        self.durations.append(now() - began)
