"""A service that stops in the middle of everything, as a real process does, and one that dies."""

import asyncio
import signal
import sys
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import pytest

from fomofeed.gateway.v1 import orchestrator_service_pb2 as pb
from services.gateway.__main__ import load_plans
from services.gateway.calling import Policies, open_calls
from services.gateway.channels import open_channels
from services.gateway.config import GatewayConfig
from services.gateway.servicer import OrchestratorServicer
from serving.request import CallFacts, enter
from tests.gateway.conftest import a_post
from tests.gateway.test_gateway_degradation import SERVICES, lost

pytestmark = pytest.mark.prove

BACK_S = 5.0  # a frozen peer is dropped in 2 s, and connected again within one more


@asynccontextmanager
async def null_models() -> AsyncIterator[tuple[asyncio.subprocess.Process, str]]:
    """A process that serves all models; gives its target."""
    process = await asyncio.create_subprocess_exec(
        *(sys.executable, "-m", "bench.stand_ins.null_models"),
        stdin=asyncio.subprocess.PIPE,
        stdout=asyncio.subprocess.PIPE,
    )
    assert process.stdout is not None
    try:
        yield process, f"127.0.0.1:{(await process.stdout.readline()).decode().strip()}"
    finally:
        if process.returncode is None:
            process.kill()
        await process.wait()


async def ask(servicer: OrchestratorServicer, timeout_s: float) -> pb.OrchestrateResponse:
    async def run() -> pb.OrchestrateResponse:
        enter(CallFacts(asyncio.get_running_loop().time() + timeout_s))
        return await servicer.Orchestrate(a_post(moderate=True), None)  # type: ignore[arg-type]

    return await asyncio.create_task(run())


@pytest.mark.parametrize("service", SERVICES)
@pytest.mark.parametrize("how", [signal.SIGSTOP, signal.SIGKILL])
async def test_a_frozen_or_killed_process_is_replaced_in_time_and_welcome_back(
    service: str, how: signal.Signals
) -> None:
    nodes = {"caption", "notification"} if service == "text" else {service}
    async with null_models() as (struck, target), null_models() as (_, others):
        targets = dict.fromkeys(SERVICES, others) | {service: target}
        config = GatewayConfig(**targets)  # type: ignore[arg-type]
        plans = load_plans(config)
        async with (
            open_channels(config, SERVICES.values()) as channels,
            open_calls(plans, channels, Policies()) as calls,
        ):
            servicer = OrchestratorServicer(plans, calls, "analyze")
            assert not (await ask(servicer, 5.0)).degraded
            struck.send_signal(how)
            for _ in range(8):
                began = time.perf_counter()
                response = await ask(servicer, 0.3)
                assert time.perf_counter() - began < 0.35
                assert nodes & set(lost(response)), lost(response)
                reasons = {lost(response)[node][0] for node in nodes & set(lost(response))}
                assert reasons <= {"DEADLINE_EXCEEDED", "UNAVAILABLE", "BREAKER_OPEN"}
            if how is signal.SIGSTOP:
                struck.send_signal(signal.SIGCONT)
                async with asyncio.timeout(BACK_S):
                    while (await ask(servicer, 1.0)).degraded:
                        pass
