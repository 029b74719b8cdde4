"""Checks a graph file against the contracts, before it ever runs.

Every rule reports what is wrong, on which line, and what to do; all mistakes of a file are
reported at once. A graph without problems can be compiled by `plan` without surprises.
"""

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path as FilePath

from google.protobuf.descriptor import Descriptor, MethodDescriptor
from google.protobuf.descriptor_pool import DescriptorPool

from fomofeed.gateway.v1 import orchestrator_service_pb2 as pb
from services.gateway.check_calls import call_problems
from services.gateway.check_fields import FieldChecker
from services.gateway.descriptors import UnknownNameError, find_message, find_method
from services.gateway.edges import (
    CycleError,
    Edges,
    ancestors,
    edges,
    in_order,
    longest_s,
    origins,
    sources_or_none,
)
from services.gateway.graph import GraphError, GraphFile, Problem, read
from services.gateway.policies.substitute import from_table
from services.gateway.policies.tables import TableError, read_table
from services.gateway.sources import REQUEST

TABLES = FilePath(__file__).parent / "tables"
FACTORS = "confidence.yaml"  # node -> {factor: ...}, measured and written by training

_Rule = Callable[["_Checked"], Iterator[Problem]]


@dataclass(frozen=True, slots=True)
class _Checked:
    """What the rules look at. Messages and methods that are unknown are not in the mappings."""

    file: GraphFile
    reads: Edges
    messages: Mapping[str, Descriptor]  # "request", "response"
    methods: Mapping[str, MethodDescriptor]  # by node
    tables: FilePath

    @property
    def graph(self) -> pb.Graph:
        return self.file.graph

    def at(self, *where: str) -> int:
        return self.file.line(*where)


def load(path: FilePath, pool: DescriptorPool, tables: FilePath = TABLES) -> GraphFile:
    """Reads and checks a graph file; raises `GraphError` with every problem that it has."""
    file = read(path)
    _add_measured_factors(file.graph, tables)
    found = [*file.problems, *problems(file, pool, tables)]
    if found:
        raise GraphError(path, found)
    return file


def _add_measured_factors(graph: pb.Graph, tables: FilePath) -> None:
    """Fills in the confidence factors that the graph file leaves to what training measured."""
    path = tables / FACTORS
    factors = read_table(path) if path.exists() else {}
    for node in graph.nodes:
        if not node.HasField("substitute") or node.substitute.confidence_factor:
            continue
        measured = factors.get(node.name)
        if isinstance(measured, dict):
            node.substitute.confidence_factor = float(measured.get("factor", 0))


def problems(file: GraphFile, pool: DescriptorPool, tables: FilePath = TABLES) -> list[Problem]:
    """Returns what is wrong with a parsed graph."""
    found: list[Problem] = []
    messages, methods = _messages(file, pool, found), _methods(file, pool, found)
    checked = _Checked(file, edges(file.graph), messages, methods, tables)
    for rule in (_missing, _names, _fields, _substitutes, _cycle, _calls):
        found.extend(rule(checked))
    if not found:  # what follows walks along the edges, which must be sound
        for rule in (_unreachable, _behind_optional, _deadlines):
            found.extend(rule(checked))
    return found


def _messages(file: GraphFile, pool: DescriptorPool, found: list[Problem]) -> dict[str, Descriptor]:
    known = {}
    for key, name in (("request", file.graph.request), ("response", file.graph.response)):
        try:
            known[key] = find_message(pool, name)
        except UnknownNameError as error:
            if name:
                found.append(Problem(file.line(key), str(error), error.remedy))
    return known


def _methods(
    file: GraphFile, pool: DescriptorPool, found: list[Problem]
) -> dict[str, MethodDescriptor]:
    known = {}
    for node in file.graph.nodes:
        try:
            known[node.name] = find_method(pool, node.call)
        except UnknownNameError as error:
            if node.call:
                line = file.line("nodes", node.name, "call")
                found.append(Problem(line, f"node {node.name}: {error}", error.remedy))
    return known


def _missing(checked: _Checked) -> Iterator[Problem]:
    graph = checked.graph
    for key in ("name", "request", "response", "nodes", "result", "default_timeout_ms"):
        if not getattr(graph, key):
            yield Problem(1, f"{key} is missing", f"add {key}: at the top level")
    for node in graph.nodes:
        for key in ("call", "timeout_ms"):
            if not getattr(node, key):
                line = checked.at("nodes", node.name)
                yield Problem(line, f"node {node.name}: {key} is missing", f"add {key}:")


def _names(checked: _Checked) -> Iterator[Problem]:
    for node in checked.graph.nodes:
        if node.name == REQUEST or not node.name.isidentifier() or not node.name.islower():
            yield Problem(
                checked.at("nodes", node.name),
                f"node {node.name!r} has no usable name",
                'use lower case letters, digits and "_", and not "request"',
            )


def _fields(checked: _Checked) -> Iterator[Problem]:
    checker = FieldChecker(
        checked.file, _origins(checked, {node.name for node in checked.graph.nodes})
    )
    for node in checked.graph.nodes:
        method = checked.methods.get(node.name)
        if method is not None:
            where = ("nodes", node.name, "fields")
            yield from checker.mapping(where, node.fields, method.input_type)
            yield from checker.expectations(node, method.output_type)
        yield from checker.condition(node)
    if response := checked.messages.get("response"):
        yield from checker.mapping(("result",), checked.graph.result, response)
        yield from checker.confidence(checked.graph, response)


def _origins(checked: _Checked, names: set[str]) -> dict[str, Descriptor | None]:
    """The messages that sources may read: the request and `names`; None where unknown."""
    known: dict[str, Descriptor | None] = {REQUEST: checked.messages.get("request")}
    for name in names:
        method = checked.methods.get(name)
        known[name] = method.output_type if method else None
    return known


def _substitutes(checked: _Checked) -> Iterator[Problem]:
    for node in checked.graph.nodes:
        method, where = checked.methods.get(node.name), ("nodes", node.name, "substitute")
        if not node.HasField("substitute") or method is None:
            continue
        given = node.substitute
        if not given.name:
            yield Problem(checked.at(*where), "substitute has no name", "add name:")
        if not 0 < given.confidence_factor <= 1:
            text = f"confidence_factor is {given.confidence_factor:g}"
            yield Problem(
                checked.at(*where),
                text,
                f"state the measured factor, in (0, 1], here or in {FACTORS}",
            )
        if given.values:
            before = ancestors(checked.reads, checked.reads[node.name]) - {node.name}
            checker = FieldChecker(checked.file, _origins(checked, before))
            yield from checker.mapping((*where, "values"), given.values, method.output_type)
        elif given.name:
            yield from _table(checked, node, method)


def _table(checked: _Checked, node: pb.Node, method: MethodDescriptor) -> Iterator[Problem]:
    try:
        table = read_table(checked.tables / f"{node.substitute.name}.yaml")
        from_table(node.substitute, table, method.output_type, method.input_type)
    except TableError as error:
        line = checked.at("nodes", node.name, "substitute", "name")
        yield Problem(line, str(error), "write values: here, or mend the table")


def _cycle(checked: _Checked) -> Iterator[Problem]:
    try:
        in_order(checked.reads)
    except CycleError as cycle:
        line = checked.at("nodes", cycle.names[0])
        yield Problem(line, f"cycle: {' -> '.join(cycle.names)}", "remove one of these edges")


def _calls(checked: _Checked) -> Iterator[Problem]:
    for node in checked.graph.nodes:
        yield from call_problems(checked.file, node, checked.methods.get(node.name))


def _unreachable(checked: _Checked) -> Iterator[Problem]:
    wanted = {
        name
        for text in checked.graph.result.values()
        for name in origins(sources_or_none(text))
        if name != REQUEST
    }
    reached = ancestors(checked.reads, sorted(wanted))
    for node in checked.graph.nodes:
        if node.name not in reached:
            line = checked.at("nodes", node.name)
            text = f"node {node.name} is unreachable: no result depends on it"
            yield Problem(line, text, "use its answer, or remove it")


def _behind_optional(checked: _Checked) -> Iterator[Problem]:
    nodes = {node.name: node for node in checked.graph.nodes}
    for name, reads in checked.reads.items():
        if nodes[name].optional:
            continue
        for other in reads:
            if nodes[other].optional and not nodes[other].HasField("substitute"):
                yield Problem(
                    checked.at("nodes", name),
                    f"node {name} is required but reads {other}, which may be missing",
                    f"give {other} a substitute, or make {name} optional",
                )


def _deadlines(checked: _Checked) -> Iterator[Problem]:
    graph = checked.graph
    for node in graph.nodes:
        if node.expected_ms > node.timeout_ms:
            text = f"node {node.name} is expected to take {node.expected_ms} ms"
            line = checked.at("nodes", node.name, "timeout_ms")
            yield Problem(line, f"{text}, its timeout is {node.timeout_ms} ms", "raise timeout_ms")
    times = {node.name: expected_ms(node) for node in graph.nodes}
    ends = longest_s(in_order(checked.reads), checked.reads, times)
    last = max(ends, key=lambda name: ends[name])
    needed = ends[last] + graph.reserve_ms
    if needed > graph.default_timeout_ms:
        text = f"the path to {last} takes {needed:g} ms with the reserve"
        remedy = "state smaller expected_ms, or raise default_timeout_ms"
        line = checked.at("default_timeout_ms")
        yield Problem(line, f"{text}, default_timeout_ms is {graph.default_timeout_ms}", remedy)


def expected_ms(node: pb.Node) -> float:
    """How long `node` is expected to take; its timeout, when the file does not say."""
    return float(node.expected_ms or node.timeout_ms)
