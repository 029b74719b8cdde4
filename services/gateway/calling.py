"""How a node is called: its policies around the wire, from the outside in.

    Retried    tries again                        (by the node's profile)
    Guarded    asks the breaker
    Watched    measures each attempt
    NodeCall   goes over the wire

Each knows only the next as a `Call`; the executor knows none of them.
"""

import logging
from collections.abc import Callable, Mapping
from random import Random

from services.gateway.channels import Channels
from services.gateway.metrics import BREAKER_OPEN, RETRIES
from services.gateway.node import NodeCall
from services.gateway.outcome import Call
from services.gateway.plan import NodePlan, Plan
from services.gateway.policies.breaker import Breaker, BreakerConfig, Guarded, State
from services.gateway.policies.budget import Budget
from services.gateway.policies.latency import LatencyWindow
from services.gateway.policies.retry import BUDGET_SHARE, PROFILES, Retried
from services.gateway.policies.watch import Watched

log = logging.getLogger(__name__)


def compose(plan: Plan, channels: Channels, config: BreakerConfig) -> Mapping[str, Call]:
    """Returns how each node of a plan is called."""
    return {name: _compose(node, channels, config) for name, node in plan.nodes.items()}


def _compose(node: NodePlan, channels: Channels, config: BreakerConfig) -> Call:
    channel = channels[node.service]
    latency = LatencyWindow(node.expected_s)
    breaker = Breaker(config, _teller(node.name))
    channel.on_connect(breaker.reset)
    call: Call = Watched(NodeCall(channel.grpc, node), node.name, latency)
    call = Guarded(call, breaker, latency)
    profile = PROFILES[node.retry]
    if profile is None:
        return call
    budget, retries = Budget(BUDGET_SHARE), RETRIES.labels(node.name)
    return Retried(call, profile, latency, budget, Random(), retries.inc)


def _teller(name: str) -> Callable[[State], None]:
    gauge = BREAKER_OPEN.labels(name)

    def tell(state: State) -> None:
        gauge.set(state is not State.CLOSED)
        log.warning("breaker of %s is %s", name, state.value)

    return tell
