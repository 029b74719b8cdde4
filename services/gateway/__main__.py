"""Starts the gateway: `python -m services.gateway`."""

import gc
import sys
from collections.abc import Mapping
from pathlib import Path

from google.protobuf.descriptor_pool import DescriptorPool

from fomofeed.gateway.v1.orchestrator_service_pb2_grpc import (
    add_OrchestratorServiceServicer_to_server,
)
from services.gateway.calling import Policies, open_calls
from services.gateway.channels import open_channels
from services.gateway.check import load
from services.gateway.config import GatewayConfig
from services.gateway.contracts import ContractError, add_descriptor_set, add_reflected
from services.gateway.descriptors import compiled_in, unknown_services
from services.gateway.graph import GraphError, read
from services.gateway.plan import Plan, compile_plan
from services.gateway.policies.breaker import BreakerConfig
from services.gateway.policies.cache import AnswerStore
from services.gateway.policies.faults import parse_faults
from services.gateway.servicer import OrchestratorServicer
from serving import settings
from serving.rpc.server import Server, ServerConfig, run_main

GC_OBJECTS = 10_000  # made since the last collection, until the next
SERVICE = "fomofeed.gateway.v1.OrchestratorService"


async def contracts(config: GatewayConfig) -> DescriptorPool:
    """Returns the contracts that the graphs may name: compiled in, in a file, or told by a service.

    A service is asked when a graph calls it, it has a target, and nothing else knows it.
    """
    pool = compiled_in()
    try:
        if config.descriptors is not None:
            add_descriptor_set(pool, config.descriptors)
        graphs = [read(path).graph for path in graph_files(config)]
        calls = [node.call for graph in graphs for node in graph.nodes]
        for service in unknown_services(pool, calls):
            if service in config.further:
                target = config.target(service)
                await add_reflected(pool, service, target, config.start_grace_s)
    except (ContractError, GraphError) as error:
        raise settings.SettingsError(str(error)) from error
    return pool


def graph_files(config: GatewayConfig) -> list[Path]:
    """The files of all graphs, by name."""
    return sorted(config.graphs.glob("*.yaml"))


def load_plans(config: GatewayConfig, pool: DescriptorPool | None = None) -> Mapping[str, Plan]:
    """Checks and compiles every graph file; raises `SettingsError` naming each mistake's line."""
    pool = pool or compiled_in()
    try:
        files = [load(path, pool, config.tables) for path in graph_files(config)]
    except GraphError as error:
        raise settings.SettingsError(str(error)) from error
    return {file.graph.name: compile_plan(file.graph, pool, config.tables) for file in files}


def policies_of(config: GatewayConfig, plans: Mapping[str, Plan]) -> Policies:
    """Makes what the policies of all nodes share; `SettingsError` for a fault of no node."""
    faults = parse_faults(config.faults)
    nodes = {name for plan in plans.values() for name in plan.nodes}
    if unknown := {fault.node for fault in faults} - nodes:
        text = f"faults name {', '.join(sorted(unknown))}; nodes: {', '.join(sorted(nodes))}"
        raise settings.SettingsError(text)
    return Policies(
        breaker=BreakerConfig(config.breaker_failures, config.breaker_open_s),
        faults=faults,
        store=AnswerStore(config.cache_bytes),
    )


async def run() -> None:
    """Serves until it is told to stop."""
    server_config, config = settings.load("gateway", ServerConfig, GatewayConfig)
    plans = load_plans(config, await contracts(config))
    policies = policies_of(config, plans)
    services = [node.service for plan in plans.values() for node in plan.nodes.values()]
    async with (
        Server(server_config, "gateway", [SERVICE]) as server,
        open_channels(config, services) as channels,
        open_calls(plans, channels, policies) as calls,
    ):
        servicer = OrchestratorServicer(plans, calls, config.default_graph)
        server.mount(add_OrchestratorServiceServicer_to_server, servicer)
        spare_collections()
        await server.serve()


def spare_collections() -> None:
    """Has the garbage collector look seldom, and never at what the start has made.

    Modules, descriptors and plans are some 200,000 objects that live for ever; looking through them
    again and again took a tenth of the CPU time of a call.
    """
    gc.collect()
    gc.freeze()
    gc.set_threshold(GC_OBJECTS)


if __name__ == "__main__":
    sys.exit(run_main(run))
