"""Runs a plan for one request: each node starts when its inputs are there.

Knows no policy: for each node it is handed one `Call` that gives an `Outcome`, whatever retries,
breakers or caches stand behind it. All tasks of a request live in one group that ends with it. A
task is made only where paths part: one that has ended a node goes on with what that made ready.

A node's deadline is its own cap, or what the caller's deadline leaves after the reserve and the
expected time of what follows the node. A node whose time is over before it starts is not started.
"""

import asyncio
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, field

import grpc
from google.protobuf.duration_pb2 import Duration
from google.protobuf.message import Message
from google.rpc import error_details_pb2 as details_pb

from fomofeed.gateway.v1 import orchestrator_service_pb2 as pb
from fomofeed.type.v1 import type_pb2
from services.gateway.alarms import Alarms
from services.gateway.blame import caller_error
from services.gateway.interruption import Interruption
from services.gateway.outcome import Call, Outcome, failed
from services.gateway.plan import NodePlan, Plan, Selection
from services.gateway.sources import REQUEST
from services.gateway.wires import fill
from serving.errors import NodeError

# gRPC rounds a timeout of a second or more up to two or three digits: a caller of 10.0 s is heard
# as one of 10.1 s. So much of the time left is no time.
_ROUNDED_FROM_S = 1.0
_ROUNDING = 0.01

OnEnd = Callable[[pb.NodeReport], None]


@dataclass(slots=True)
class NodeRun:
    """What became of one node. Times are of the loop's clock, in seconds."""

    report: pb.NodeReport
    started: float
    budget_s: float
    ended: float
    degradation: type_pb2.Degradation | None = None


@dataclass(frozen=True, slots=True)
class Execution:
    """The end of a run: the response without its account, and what each node did, in order."""

    response: Message
    runs: Mapping[str, NodeRun]
    began: float
    reserve_s: float


async def execute(
    plan: Plan,
    selection: Selection,
    calls: Mapping[str, Call],
    request: Message,
    deadline: float,
    on_end: OnEnd | None = None,
) -> Execution:
    """Runs the selected nodes; `on_end` hears of each as it ends.

    Raises `NodeError` when a required node without a substitute failed, `InvalidRequestError`
    when a node found fault with what the caller sent. Whatever still ran is cancelled then.
    """
    with Alarms() as alarms:
        loop = asyncio.get_running_loop()
        run = _Run(plan, selection, calls, request, deadline, on_end, alarms, loop)
        try:
            async with asyncio.TaskGroup() as group:
                await run.start(group)
        except ExceptionGroup as errors:
            raise errors.exceptions[0] from None
    return run.finish()


def _error(node: str, outcome: Outcome) -> NodeError:
    """Returns what the caller hears of a node without which there is no answer."""
    again_s, details = outcome.retry_after_s, []
    if again_s is not None:
        delay = Duration()
        delay.FromNanoseconds(round(again_s * 1e9))
        details.append(details_pb.RetryInfo(retry_delay=delay))
    return NodeError(node, outcome.code, outcome.text, details, again_s)


@dataclass(slots=True)
class _Run:
    """The state of one execution. Everything happens on the event loop."""

    plan: Plan
    selection: Selection
    calls: Mapping[str, Call]
    request: Message
    deadline: float
    on_end: OnEnd | None
    alarms: Alarms
    loop: asyncio.AbstractEventLoop
    began: float = 0.0
    reserve_s: float = 0.0
    answers: dict[str, Message] = field(default_factory=dict)
    substituted: set[str] = field(default_factory=set)
    waits_for: dict[str, int] = field(default_factory=dict)
    runs: dict[str, NodeRun] = field(default_factory=dict)

    async def start(self, group: asyncio.TaskGroup) -> None:
        self.began = self.loop.time()
        left_s = self.deadline - self.began
        rounded_s = _ROUNDING * left_s if left_s >= _ROUNDED_FROM_S else 0.0
        self.reserve_s = max(self.plan.reserve_s, rounded_s)
        self.answers[REQUEST] = self.request
        self.waits_for = dict(self.selection.waits_for)
        await self._follow(group, self.selection.starts)

    def finish(self) -> Execution:
        response = self.plan.response()
        fill(response, self.selection.results, self.answers, self.substituted)
        runs = {name: self.runs[name] for name in self.selection.nodes}
        return Execution(response, runs, self.began, self.reserve_s)

    async def _follow(self, group: asyncio.TaskGroup, names: Iterable[str]) -> None:
        """Runs nodes whose inputs are there, and what that makes ready; the first one itself."""
        ready = [self.plan.nodes[name] for name in self._unskipped(names)]
        while ready:
            own, *others = ready
            for node in others:
                group.create_task(self._follow_one(group, node), name=node.name)
            ended = self._end(await self._call(own))
            ready = [self.plan.nodes[name] for name in self._unskipped(ended)]

    async def _follow_one(self, group: asyncio.TaskGroup, node: NodePlan) -> None:
        await self._follow(group, self._end(await self._call(node)))

    def _unskipped(self, ready: Iterable[str]) -> Iterator[str]:
        """The nodes that run; for one whose condition is false, those that waited only for it."""
        for name in ready:
            when = self.plan.nodes[name].when
            if when is None or when(self.answers):
                yield name
            else:
                now = self.loop.time()
                report = pb.NodeReport(node=name, state=pb.NODE_STATE_SKIPPED)
                yield from self._unskipped(self._end(NodeRun(report, now, 0.0, now)))

    async def _call(self, node: NodePlan) -> NodeRun:
        request = node.request()
        fill(request, node.wires, self.answers, self.substituted)
        started = self.loop.time()
        kept_s = self.reserve_s + self.selection.after_s[node.name]
        deadline = min(started + node.timeout_s, self.deadline - kept_s)
        outcome = await self._outcome(node, request, deadline)
        ended = self.loop.time()
        state, lost = self._settle(node, request, outcome)
        report = pb.NodeReport(
            node=node.name,
            state=state,
            elapsed_us=round((ended - started) * 1e6),
            budget_us=round((deadline - started) * 1e6),
            attempts=outcome.attempts,
            ledger=outcome.ledger,
            error=outcome.error,
        )
        return NodeRun(report, started, deadline - started, ended, lost)

    async def _outcome(self, node: NodePlan, request: Message, deadline: float) -> Outcome:
        now = self.loop.time()
        if deadline <= now:
            text = "not started: what is left of the deadline is needed by what follows"
            return failed(grpc.StatusCode.DEADLINE_EXCEEDED, text, attempts=0)
        overrun = Interruption(self.loop)
        alarm = self.alarms.at(deadline, overrun.interrupt)
        try:
            outcome = await self.calls[node.name](request, deadline)
        except asyncio.CancelledError:
            if not overrun.end():
                raise
            text = f"no answer within {(deadline - now) * 1000:.0f} ms"
            return failed(grpc.StatusCode.DEADLINE_EXCEEDED, text)
        finally:
            alarm.turn_off()
        overrun.end()
        return outcome

    def _settle(
        self, node: NodePlan, request: Message, outcome: Outcome
    ) -> tuple[pb.NodeState.ValueType, type_pb2.Degradation | None]:
        """Decides what a node's outcome means for the request, and what is lost by it."""
        if outcome.answer is not None:
            self.answers[node.name] = outcome.answer
            return pb.NODE_STATE_SUCCEEDED, None
        if fault := caller_error(node, outcome):
            raise fault
        lost = type_pb2.Degradation(node=node.name, reason=outcome.reason, confidence_factor=1.0)
        if node.substitute is not None:
            stand_in = node.substitute.build(self.answers, self.substituted, request)
            self.answers[node.name] = stand_in
            self.substituted.add(node.name)
            lost.substitute = node.substitute.name
            lost.confidence_factor = node.substitute.confidence_factor
            return pb.NODE_STATE_SUBSTITUTED, lost
        if node.is_optional:
            return pb.NODE_STATE_FAILED, lost
        raise _error(node.name, outcome)

    def _end(self, run: NodeRun) -> list[str]:
        """Tells who listens; returns the nodes whose inputs are all there now."""
        name = run.report.node
        self.runs[name] = run
        if self.on_end is not None:
            self.on_end(run.report)
        ready = []
        for dependent in self.selection.dependents[name]:
            self.waits_for[dependent] -= 1
            if self.waits_for[dependent] == 0:
                ready.append(dependent)
        return ready
