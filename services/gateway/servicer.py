"""The gRPC face of the gateway: picks the graph, runs it, tells what came of it."""

import asyncio
import math
from collections.abc import AsyncIterator, Mapping

import grpc

from fomofeed.gateway.v1 import orchestrator_service_pb2 as pb
from fomofeed.gateway.v1 import orchestrator_service_pb2_grpc as pb_grpc
from services.gateway.calling import Calls
from services.gateway.convert import check_request, to_response
from services.gateway.executor import OnEnd, execute
from services.gateway.plan import Plan
from serving.errors import InvalidRequestError, NotFoundError, ServingError, Violation, to_status
from serving.request import current

MAX_BATCH = 64  # requests of one BatchOrchestrate


class OrchestratorServicer(pb_grpc.OrchestratorServiceServicer):
    """Serves every graph whose request and response are those of `Orchestrate`."""

    def __init__(self, plans: Mapping[str, Plan], calls: Calls, default_graph: str) -> None:
        self._plans = plans
        self._calls = calls
        self._default_graph = default_graph

    async def Orchestrate(
        self,
        request: pb.OrchestrateRequest,
        context: grpc.aio.ServicerContext[pb.OrchestrateRequest, pb.OrchestrateResponse],
    ) -> pb.OrchestrateResponse:
        return await self._run(request)

    async def StreamOrchestrate(
        self,
        request: pb.StreamOrchestrateRequest,
        context: grpc.aio.ServicerContext[
            pb.StreamOrchestrateRequest, pb.StreamOrchestrateResponse
        ],
    ) -> AsyncIterator[pb.StreamOrchestrateResponse]:
        events: asyncio.Queue[pb.NodeReport | None] = (
            asyncio.Queue()
        )  # at most one a node, and None
        running = asyncio.create_task(self._run(request.request, events.put_nowait))
        running.add_done_callback(lambda _: events.put_nowait(None))
        try:
            while (report := await events.get()) is not None:
                yield pb.StreamOrchestrateResponse(node=report)
            yield pb.StreamOrchestrateResponse(result=running.result())
        finally:  # the reader has gone, or all is done
            running.cancel()
            await asyncio.wait([running])

    async def BatchOrchestrate(
        self,
        request: pb.BatchOrchestrateRequest,
        context: grpc.aio.ServicerContext[pb.BatchOrchestrateRequest, pb.BatchOrchestrateResponse],
    ) -> pb.BatchOrchestrateResponse:
        if not 1 <= len(request.requests) <= MAX_BATCH:
            count = f"{len(request.requests)} requests"
            raise InvalidRequestError(Violation("requests", count, f"1 to {MAX_BATCH} requests"))
        async with asyncio.TaskGroup() as group:
            tasks = [group.create_task(self._result(one)) for one in request.requests]
        return pb.BatchOrchestrateResponse(results=[task.result() for task in tasks])

    async def DescribeGraph(
        self,
        request: pb.DescribeGraphRequest,
        context: grpc.aio.ServicerContext[pb.DescribeGraphRequest, pb.DescribeGraphResponse],
    ) -> pb.DescribeGraphResponse:
        name = request.graph or self._default_graph
        if name not in self._plans:
            raise NotFoundError("graph", name, sorted(self._plans))
        return pb.DescribeGraphResponse(graph=self._plans[name].graph)

    async def _result(self, request: pb.OrchestrateRequest) -> pb.OrchestrateResult:
        try:
            return pb.OrchestrateResult(response=await self._run(request))
        except ServingError as error:
            return pb.OrchestrateResult(error=to_status(error))

    async def _run(
        self, request: pb.OrchestrateRequest, on_end: OnEnd | None = None
    ) -> pb.OrchestrateResponse:
        name = request.action or self._default_graph
        plan = self._plans.get(name)
        if plan is None:
            known = f"one of {', '.join(sorted(self._plans))}"
            raise InvalidRequestError(Violation("action", repr(name), known))
        selection = plan.select(request.wanted.paths)
        check_request(request, selection)
        deadline = current().deadline
        if math.isinf(deadline):
            deadline = asyncio.get_running_loop().time() + plan.default_timeout_s
        execution = await execute(plan, selection, self._calls[name], request, deadline, on_end)
        return to_response(plan, selection, execution, deadline, request.explain)
