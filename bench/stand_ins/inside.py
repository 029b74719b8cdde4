"""The gateway's inner parts in this process, without a wire: what each costs, by adding it.

Nodes answer at once; many callers run side by side, as in a busy gateway, so that a turn of the
event loop is shared as it is there.
"""

import asyncio
import time
from collections.abc import Mapping, Sequence
from contextlib import AsyncExitStack
from dataclasses import dataclass

from google.protobuf.message import Message

from bench.stand_ins.null_models import ANSWERS
from fomofeed.gateway.v1 import orchestrator_service_pb2 as pb
from services.gateway.calling import Policies, open_calls
from services.gateway.channels import open_channels
from services.gateway.config import GatewayConfig
from services.gateway.executor import execute
from services.gateway.outcome import Call, Outcome
from services.gateway.plan import NodePlan, Plan
from services.gateway.policies.coalesce import Coalesced
from services.gateway.policies.lull import Lulls
from serving.request import CallFacts, enter

MEDIA_BYTES = 16 * 1024
PATIENCE_S = 30.0


@dataclass(frozen=True, slots=True)
class Parts:
    """CPU of one Orchestrate, in us, by part."""

    executor: float
    policies: float
    coalescer: float

    @classmethod
    def least(cls, rounds: "Sequence[Parts]") -> "Parts":
        """The least disturbed of several rounds, part by part."""
        return cls(
            min(one.executor for one in rounds),
            min(one.policies for one in rounds),
            min(one.coalescer for one in rounds),
        )


def post(number: int, explain: bool = False) -> pb.OrchestrateRequest:
    """A request unlike every other."""
    media = number.to_bytes(8, "big") * (MEDIA_BYTES // 8)
    return pb.OrchestrateRequest(
        user_id=number + 1, media=media, caption=f"draft {number}", tags=["a", "b"], explain=explain
    )


def at_once(node: NodePlan) -> Call:
    """A node that knows its answer."""
    outcome = Outcome(ANSWERS[node.name])

    async def call(request: Message, deadline: float) -> Outcome:
        return outcome

    return call


class AllAtOnce:
    """A node that knows its answer to any number of requests, a turn of the loop later."""

    def __init__(self, name: str) -> None:
        self._outcome = Outcome(ANSWERS[name])

    async def __call__(self, asked: Sequence[tuple[Message, float]]) -> list[Outcome]:
        await asyncio.sleep(0)
        return [self._outcome] * len(asked)


async def measure(plan: Plan, target: str, callers: int, calls: int) -> Parts:
    """Measures the executor alone, with the policies, and with the coalescer too.

    `target` is a server of all services, for the channels; nothing is called there.
    """
    services = {node.service for node in plan.nodes.values()}
    names = {service.split(".")[1] for service in services}
    config = GatewayConfig(**dict.fromkeys(names, target))  # type: ignore[arg-type]
    async with AsyncExitStack() as stack:
        channels = await stack.enter_async_context(open_channels(config, services))
        lulls = Lulls()
        shared = {node.name: at_once(node) for node in plan.nodes.values()}
        for node in plan.nodes.values():
            if node.batch is not None:
                together = AllAtOnce(node.name)
                shared[node.name] = await stack.enter_async_context(
                    Coalesced(node.name, together, node.expected_s, node.is_optional, lulls)
                )
        found = [
            await _executions_us(
                plan, {n.name: at_once(n) for n in plan.nodes.values()}, callers, calls
            )
        ]
        for wire in (at_once, lambda node: shared[node.name]):
            opened = open_calls({"analyze": plan}, channels, Policies(), wire=wire)
            nodes = (await stack.enter_async_context(opened))["analyze"]
            found.append(await _executions_us(plan, nodes, callers, calls))
    executor, policies, coalescer = found
    return Parts(executor, policies - executor, coalescer - policies)


async def _executions_us(plan: Plan, nodes: Mapping[str, Call], callers: int, calls: int) -> float:
    selection, loop = plan.select(()), asyncio.get_running_loop()
    numbers = iter(range(10**9))

    async def caller() -> None:
        enter(CallFacts(loop.time() + PATIENCE_S))
        for _ in range(calls // callers):
            request = post(next(numbers))
            await execute(plan, selection, nodes, request, loop.time() + PATIENCE_S)

    before = time.process_time()
    await asyncio.gather(*(asyncio.create_task(caller()) for _ in range(callers)))
    return (time.process_time() - before) / (calls // callers * callers) * 1e6
