"""A graph language small enough for an oracle: every node answers the sum of what it reads, plus 1.

Contracts are made here, so that graphs of any shape can be built; `SumCall` is an honest node.
"""

import asyncio
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import grpc
from google.protobuf import descriptor_pb2, descriptor_pool
from google.protobuf.message import Message

from fomofeed.gateway.v1 import orchestrator_service_pb2 as pb
from services.gateway.outcome import Call, Outcome, failed
from services.gateway.plan import NodePlan, Plan, compile_plan

MAX_NODES = 12
_FIELD = descriptor_pb2.FieldDescriptorProto


def _field(name: str, number: int, label: int = 1) -> descriptor_pb2.FieldDescriptorProto:
    return _FIELD(name=name, number=number, type=_FIELD.TYPE_INT64, label=label)


def _pool() -> descriptor_pool.DescriptorPool:
    file = descriptor_pb2.FileDescriptorProto(name="sums.proto", package="sums", syntax="proto3")
    names = [f"n{index}" for index in range(MAX_NODES)]
    fields: dict[str, list[Any]] = {
        "Question": [_field("start", 1), _field("flag", 2)],
        "Terms": [_field("terms", 1, 3)],
        "Sum": [_field("sum", 1)],
        "Result": [],
    }
    fields["Question"][1].type = _FIELD.TYPE_BOOL
    for number, name in enumerate(names, start=1):
        optional = _field(name, number)
        optional.proto3_optional, optional.oneof_index = True, number - 1
        fields["Result"].append(optional)
    for name, members in fields.items():
        file.message_type.add(name=name, field=members)
    for name in names:
        file.message_type[-1].oneof_decl.add(name=f"_{name}")
    service = file.service.add(name="Adder")
    service.method.add(name="Add", input_type=".sums.Terms", output_type=".sums.Sum")
    pool = descriptor_pool.DescriptorPool()
    pool.Add(file)
    return pool


POOL = _pool()


@dataclass(frozen=True)
class SumNode:
    """One node of a small graph. `stand_in` is its substitute's sum, None for no substitute."""

    reads: tuple[str, ...] = ()
    is_optional: bool = False
    stand_in: int | None = None
    is_conditional: bool = False  # runs only when the question's flag is set
    timeout_ms: int = 1000
    expected_ms: int = 10
    seconds: float = 0.0
    fails: bool = False
    is_idempotent: bool = False  # so it may be shared and hedged
    retry: str = ""


def sum_plan(nodes: Mapping[str, SumNode], reserve_ms: int = 0) -> Plan:
    """Compiles a graph of `nodes`, each of which is a result of the same name."""
    graph = pb.Graph(
        name="sums",
        request="sums.Question",
        response="sums.Result",
        default_timeout_ms=100_000,
        reserve_ms=reserve_ms,
        result={name: f"{name}.sum" for name in nodes},
    )
    for name, node in nodes.items():
        added = graph.nodes.add(
            name=name,
            call="sums.Adder/Add",
            fields={"terms": ", ".join(["1", "request.start", *(f"{o}.sum" for o in node.reads)])},
            optional=node.is_optional,
            when="request.flag" if node.is_conditional else "",
            timeout_ms=node.timeout_ms,
            expected_ms=node.expected_ms,
            idempotent=node.is_idempotent,
            retry=node.retry,
        )
        if node.stand_in is not None:
            added.substitute.name = "fixed"
            added.substitute.confidence_factor = 0.5
            added.substitute.values["sum"] = str(node.stand_in)
    return compile_plan(graph, POOL)


@dataclass
class SumCall:
    """Adds up, after a while, or fails. Remembers its runs as (start, end), in loop time."""

    plan: NodePlan
    node: SumNode
    runs: list[tuple[float, float]] = field(default_factory=list)
    deadlines: list[float] = field(default_factory=list)
    cancelled: int = 0

    async def __call__(self, request: Message, deadline: float) -> Outcome:
        loop = asyncio.get_running_loop()
        start = loop.time()
        self.deadlines.append(deadline)
        try:
            await asyncio.sleep(self.node.seconds)
        except asyncio.CancelledError:
            self.cancelled += 1
            raise
        self.runs.append((start, loop.time()))
        if self.node.fails:
            return failed(grpc.StatusCode.UNAVAILABLE, "broken")
        return Outcome(self.plan.response(sum=sum(request.terms)))  # type: ignore[attr-defined]


def sum_calls(plan: Plan, nodes: Mapping[str, SumNode]) -> dict[str, SumCall]:
    """One honest call for each node."""
    return {name: SumCall(plan.nodes[name], node) for name, node in nodes.items()}


def as_calls(calls: Mapping[str, SumCall]) -> Mapping[str, Call]:
    return calls
