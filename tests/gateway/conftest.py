"""The analyze graph behind a real gateway, with fake services behind real servers."""

import asyncio
from collections.abc import AsyncIterator, Mapping
from contextlib import AsyncExitStack, asynccontextmanager
from typing import Any

import grpc
import pytest

from fomofeed.gateway.v1 import orchestrator_service_pb2 as pb
from fomofeed.gateway.v1 import orchestrator_service_pb2_grpc as pb_grpc
from services.gateway.__main__ import load_plans
from services.gateway.calling import Policies, open_calls
from services.gateway.channels import open_channels
from services.gateway.config import GatewayConfig
from services.gateway.plan import Plan
from services.gateway.policies.faults import parse_faults
from services.gateway.servicer import OrchestratorServicer
from serving.request import CallFacts, enter
from tests.conftest import running
from tests.gateway.fake_nodes import FakeServices

PLANS = load_plans(GatewayConfig())
LONG_S = 10.0  # a caller's deadline that no test waits for


class Analyze:
    """A gateway and its fakes; `kill` ends the server of one service.

    It remembers no answers unless its policies say so.
    """

    def __init__(self, policies: Policies | None = None, plans: Mapping[str, Plan] = PLANS) -> None:
        self._policies = policies or Policies()
        self._plans = plans
        self.fakes = FakeServices()
        self.stub: pb_grpc.OrchestratorServiceAsyncStub
        self._stack = AsyncExitStack()
        self._servers: dict[str, AsyncExitStack] = {}

    async def __aenter__(self) -> "Analyze":
        targets = {}
        for name, mount in self.fakes.mounts().items():
            server = self._servers[name] = AsyncExitStack()
            running_server = await server.enter_async_context(running([mount], [name]))
            targets[name.split(".")[1]] = running_server.target
        config = GatewayConfig(**targets)
        channels = await self._stack.enter_async_context(open_channels(config, self._servers))
        self._channels = channels
        servicer = await self._stack.enter_async_context(self.servicer(self._policies))
        mount = (pb_grpc.add_OrchestratorServiceServicer_to_server, servicer)
        gateway = await self._stack.enter_async_context(running([mount]))
        self.stub = pb_grpc.OrchestratorServiceStub(gateway.channel)
        return self

    async def __aexit__(self, *_: object) -> None:
        await self._stack.aclose()
        for name in list(self._servers):
            await self.kill(name)

    @asynccontextmanager
    async def servicer(self, policies: Policies) -> AsyncIterator[OrchestratorServicer]:
        """Another gateway before the same services, without its own wire."""
        async with open_calls(self._plans, self._channels, policies) as calls:
            yield OrchestratorServicer(self._plans, calls, next(iter(self._plans)))

    async def drill(
        self, faults: str, timeout_s: float = LONG_S, **changes: Any
    ) -> pb.OrchestrateResponse:
        """Analyses the usual post by another gateway, whose calls suffer `faults`."""
        async with self.servicer(Policies(faults=parse_faults(faults))) as servicer:
            return await ask_directly(servicer, timeout_s, **changes)

    async def kill(self, service: str) -> None:
        """Ends the server of a service, by full name."""
        await self._servers.pop(service).aclose()

    async def ask(self, timeout_s: float | None = LONG_S, **changes: Any) -> pb.OrchestrateResponse:
        """Analyses the usual post, with `changes`."""
        metadata = grpc.aio.Metadata(("fomofeed-tenant", "studio"))
        return await self.stub.Orchestrate(a_post(**changes), timeout=timeout_s, metadata=metadata)


async def ask_directly(
    servicer: OrchestratorServicer, timeout_s: float, **changes: Any
) -> pb.OrchestrateResponse:
    """Analyses the usual post, with `changes`, without a wire of whose lag a test would know."""

    async def ask() -> pb.OrchestrateResponse:
        enter(CallFacts(asyncio.get_running_loop().time() + timeout_s))
        return await servicer.Orchestrate(a_post(**changes), None)  # type: ignore[arg-type]

    return await asyncio.create_task(ask())


def a_post(**changes: Any) -> pb.OrchestrateRequest:
    """A request that is right in every field, but for `changes`."""
    fields: dict[str, Any] = {
        "user_id": 12,
        "content_type": "post",
        "media": b"picture",
        "caption": "Test caption",
        "tags": ["ai", "test"],
    }
    return pb.OrchestrateRequest(**(fields | changes))


@pytest.fixture
async def analyze() -> AsyncIterator[Analyze]:
    async with Analyze() as running_graph:
        yield running_graph
