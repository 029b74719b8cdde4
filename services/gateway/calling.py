"""How a node is called: its policies around the wire, from the outside in.

    Once       shares the call of identical requests, remembers answers   (idempotent nodes)
    Retried    tries again                                                (by the node's profile)
    Limited    waits for a place, or refuses                              (nodes without a batch)
    Hedged     calls a second time when the first is slow                 (idempotent nodes)
    Guarded    asks the breaker
    Watched    measures each attempt
    Checked    refuses an unsound answer
    Faulty     makes trouble                                              (where it is asked for)
    Coalesced  sends concurrent calls together, bounds what waits         (nodes with a batch)
    NodeCall   goes over the wire

Each knows only the next as a `Call`; the executor knows none of them.
"""

import logging
from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass, field
from random import Random

from services.gateway.channels import Channels, ServiceChannel
from services.gateway.metrics import BREAKER_OPEN, HEDGES, LIMIT, REFUSED, RETRIES, SHARED
from services.gateway.node import Checked, NodeCall
from services.gateway.outcome import Call
from services.gateway.plan import NodePlan, Plan
from services.gateway.policies.breaker import Breaker, BreakerConfig, Guarded, State
from services.gateway.policies.budget import Budget
from services.gateway.policies.cache import AnswerStore, NodeCache
from services.gateway.policies.coalesce import Coalesced
from services.gateway.policies.faults import Fault, Faulty
from services.gateway.policies.hedge import BUDGET_SHARE as HEDGED_SHARE
from services.gateway.policies.hedge import Hedged
from services.gateway.policies.latency import LatencyWindow
from services.gateway.policies.limited import Limited
from services.gateway.policies.limiter import Limiter, LimiterConfig
from services.gateway.policies.lull import Lulls
from services.gateway.policies.once import Once
from services.gateway.policies.retry import BUDGET_SHARE as RETRIED_SHARE
from services.gateway.policies.retry import PROFILES, Retried
from services.gateway.policies.together import Together
from services.gateway.policies.watch import Watched

log = logging.getLogger(__name__)

Calls = Mapping[str, Mapping[str, Call]]  # graph -> node -> how it is called

Wire = Callable[[NodePlan], Call]


@dataclass(frozen=True, slots=True)
class Policies:
    """What the policies of all nodes share. A store without room remembers nothing."""

    breaker: BreakerConfig = field(default_factory=BreakerConfig)
    limiter: LimiterConfig = field(default_factory=LimiterConfig)
    max_waiting: int = 1024  # calls that wait for a place of one node, >= 0
    faults: tuple[Fault, ...] = ()  # trouble that is asked for
    store: AnswerStore = field(default_factory=lambda: AnswerStore(0))
    lulls: Lulls = field(default_factory=Lulls)


@asynccontextmanager
async def open_calls(
    plans: Mapping[str, Plan], channels: Channels, policies: Policies, wire: Wire | None = None
) -> AsyncIterator[Calls]:
    """Gives the calls of every node of every graph; ends when the last of them has ended.

    `wire` takes the place of the network, for measurements of what is around it.
    """
    async with AsyncExitStack() as stack:
        yield {
            graph: {
                name: await _compose(stack, node, channels[node.service], policies, wire)
                for name, node in plan.nodes.items()
            }
            for graph, plan in plans.items()
        }


async def _compose(
    stack: AsyncExitStack,
    node: NodePlan,
    channel: ServiceChannel,
    policies: Policies,
    wire: Wire | None,
) -> Call:
    latency = LatencyWindow(node.expected_s)
    breaker = Breaker(policies.breaker, _teller(node.name))
    channel.on_connect(breaker.reset)
    call = await _wire(stack, node, channel, policies.lulls) if wire is None else wire(node)
    call = _faulty(call, node.name, policies.faults)
    call = Watched(Checked(call, node.check), node.name, latency)
    call = Guarded(call, breaker, latency)
    limiter = Limiter(policies.limiter)  # learns only where calls pass it
    if node.is_idempotent:
        hedges = HEDGES.labels(node.name)
        room = (lambda: limiter.has_room) if node.batch is None else (lambda: True)
        call = Hedged(call, latency, Budget(HEDGED_SHARE), hedges.inc, room)
    if node.batch is None:
        call = _limited(call, node, limiter, latency, policies)
    call = _retried(call, node, latency)
    return _once(call, node, channel, policies.store) if node.is_idempotent else call


async def _wire(
    stack: AsyncExitStack, node: NodePlan, channel: ServiceChannel, lulls: Lulls
) -> Call:
    single = NodeCall(channel.grpc, node.method, node.request, node.response)
    batch = node.batch
    if batch is None:
        return single
    many = NodeCall(channel.grpc, batch.method, batch.request, batch.response)
    together = Together(single, many, batch)
    return await stack.enter_async_context(
        Coalesced(node.name, together, node.expected_s, node.is_optional, lulls)
    )


def _faulty(call: Call, name: str, faults: Sequence[Fault]) -> Call:
    own = [fault for fault in faults if fault.node == name]
    if not own:
        return call
    log.warning("faults are injected into calls of %s: %s", name, own)
    return Faulty(call, own, Random())


def _limited(
    call: Call, node: NodePlan, limiter: Limiter, latency: LatencyWindow, policies: Policies
) -> Call:
    LIMIT.labels(node.name).set_function(lambda: limiter.limit)
    return Limited(
        call,
        limiter,
        latency,
        is_optional=node.is_optional,
        max_waiting=policies.max_waiting,
        on_refusal=REFUSED.labels(node.name).inc,
    )


def _retried(call: Call, node: NodePlan, latency: LatencyWindow) -> Call:
    profile = PROFILES[node.retry]
    if profile is None:
        return call
    retries = RETRIES.labels(node.name)
    return Retried(call, profile, latency, Budget(RETRIED_SHARE), Random(), retries.inc)


def _once(call: Call, node: NodePlan, channel: ServiceChannel, store: AnswerStore) -> Call:
    cache = NodeCache(store, node.name, node.cache_s) if node.cache_s else None
    if cache is not None:
        channel.on_connect(cache.forget)
    return Once(call, cache, SHARED.labels(node.name).inc)


def _teller(name: str) -> Callable[[State], None]:
    gauge = BREAKER_OPEN.labels(name)

    def tell(state: State) -> None:
        gauge.set(state is not State.CLOSED)
        log.warning("breaker of %s is %s", name, state.value)

    return tell
