"""Servers in pairs that are ended and started again one by one, and callers who note each answer.

An answer names the replicas that it came from (the ledgers of its nodes, and its own), so callers
know when a server that was started again has been found by each gateway.
"""

import asyncio
from collections import Counter
from collections.abc import Callable, Iterable, Sequence
from contextlib import AbstractAsyncContextManager, AsyncExitStack
from dataclasses import dataclass, field
from itertools import product

import grpc

from cluster.load.arrivals import poisson
from cluster.load.client import OpenLoop
from cluster.load.outcomes import CODES, DEGRADED, OK
from fomofeed.gateway.v1 import orchestrator_service_pb2 as pb
from fomofeed.gateway.v1 import orchestrator_service_pb2_grpc as pb_grpc
from fomofeed.type.v1 import type_pb2
from serving.request import LEDGER_KEY
from serving.rpc.lifecycle import Phase
from serving.rpc.server import Server, ServerConfig

Furnish = Callable[[Server], AbstractAsyncContextManager[None]]
"""Mounts what a server serves, and holds it open."""


class Replica:
    """One server in this process. It keeps its port, and has a new name after each start."""

    def __init__(
        self, name: str, services: Sequence[str], furnish: Furnish, **config: float
    ) -> None:
        self._base_name, self._services, self._furnish = name, services, furnish
        self._config = config
        self._starts = 0
        self._port = 0
        self._stack = AsyncExitStack()

    @property
    def name(self) -> str:
        """As ledgers tell it."""
        return f"{self._base_name}.{self._starts}"

    @property
    def target(self) -> str:
        return f"127.0.0.1:{self._port}"

    async def start(self) -> None:
        """Returns when it is SERVING."""
        self._starts += 1
        config = ServerConfig(port=self._port, metrics_port=None, replica=self.name, **self._config)  # type: ignore[arg-type]  # times only
        server = await self._stack.enter_async_context(Server(config, "test", self._services))
        self._port = server.port
        await self._stack.enter_async_context(self._furnish(server))
        stop = asyncio.Event()
        serving = asyncio.create_task(server.serve(stop))
        self._stack.push_async_callback(_drain, stop, serving)
        await server.entered(Phase.SERVING)

    async def end(self) -> None:
        """Ends it as SIGTERM does; returns when its port is free."""
        await self._stack.aclose()


async def _drain(stop: asyncio.Event, serving: asyncio.Task[None]) -> None:
    stop.set()
    await serving


@dataclass
class Callers:
    """Call number by number; each notes what came back and from whom."""

    stub: "pb_grpc.OrchestratorServiceAsyncStub"
    post: Callable[[int], pb.OrchestrateRequest]
    counts: Counter[str] = field(default_factory=Counter)
    faults: list[str] = field(default_factory=list)  # of answers that were not whole
    seen: set[tuple[str, str]] = field(default_factory=set)  # gateway, replica behind it
    _news: asyncio.Condition = field(default_factory=asyncio.Condition)

    async def __call__(self, index: int, timeout_s: float) -> int:
        call = self.stub.Orchestrate(self.post(index), timeout=timeout_s)
        try:
            response = await call
        except grpc.aio.AioRpcError as error:
            status: int = error.code().value[0]
            self.counts[CODES[status]] += 1
            self.faults.append(f"{error.code().name}: {error.details()}")
            return status
        gateway = await _answered_by(call)
        pairs = {(gateway, node.ledger.replica) for node in response.nodes}
        if not pairs <= self.seen:
            async with self._news:
                self.seen |= pairs
                self._news.notify_all()
        self.counts["DEGRADED" if response.degraded else "WHOLE"] += 1
        self.faults += [f"{node.node}: {node.error}" for node in response.nodes if node.error]
        return DEGRADED if response.degraded else OK

    async def until_heard_of(
        self, gateways: Iterable[str], replicas: Iterable[str], limit_s: float
    ) -> None:
        """Returns once each gateway has answered with the help of each replica."""
        wanted = set(product(gateways, replicas))
        try:
            async with asyncio.timeout(limit_s), self._news:
                await self._news.wait_for(lambda: wanted <= self.seen)
        except TimeoutError:
            missing = sorted(wanted - self.seen)
            raise AssertionError(f"{missing} after {limit_s:g} s; {self.faults}") from None

    async def call_until(
        self, done: asyncio.Event, rate: float, least: int, timeout_s: float
    ) -> None:
        """Sends `rate` calls a second, open loop, until `done` and at least `least` calls."""
        loop, sent = asyncio.get_running_loop(), 0
        while sent < least or not done.is_set():
            offsets = poisson(rate, 1.0, seed=sent)
            await OpenLoop(self, offsets, timeout_s, first_index=sent).run(loop.time())
            sent += len(offsets)


async def _answered_by(call: grpc.aio.UnaryUnaryCall[object, object]) -> str:
    for key, value in await call.trailing_metadata() or ():
        if key == LEDGER_KEY and isinstance(value, bytes):
            return type_pb2.Ledger.FromString(value).replica
    return ""
