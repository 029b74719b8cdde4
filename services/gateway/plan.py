"""The plan of a graph: everything about it that is the same for every request, computed once.

A call then costs no YAML, no parsing of strings and no look-up in descriptors: readiness is a
count, an edge is a compiled wire, a budget is a subtraction.
"""

from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path as FilePath

from google.protobuf.descriptor import Descriptor, MethodDescriptor
from google.protobuf.descriptor_pool import DescriptorPool
from google.protobuf.message import Message
from google.protobuf.message_factory import GetMessageClass

from fomofeed.gateway.v1 import orchestrator_service_pb2 as pb
from services.gateway.answers import Check, compile_check
from services.gateway.batches import BatchPlan, compile_batch
from services.gateway.check import TABLES, expected_ms
from services.gateway.descriptors import descriptor_of, find_message, find_method
from services.gateway.edges import Edges, after_s, ancestors, edges, in_order
from services.gateway.fields import (
    ABSENT,
    FieldPathError,
    Getter,
    Setter,
    compile_getter,
    compile_setter,
    field_type,
)
from services.gateway.policies.substitute import CompiledSubstitute, from_table, from_values
from services.gateway.policies.tables import read_table
from services.gateway.sources import (
    REQUEST,
    Constant,
    Path,
    SourceError,
    parse_path,
    parse_sources,
)
from services.gateway.wires import Answers, Wire, compile_wires
from serving.errors import InvalidRequestError, Violation

Condition = Callable[[Answers], bool]

_SELECTIONS = 256  # field masks whose selection is remembered


@dataclass(frozen=True, slots=True)
class NodePlan:
    """One node, compiled."""

    name: str
    service: str  # full name, "fomofeed.clip.v1.ClipService"
    method: str  # path on the wire, "/fomofeed.clip.v1.ClipService/AnalyzeImage"
    request: type[Message]
    response: type[Message]
    reads: tuple[str, ...]  # nodes
    wires: tuple[Wire, ...]
    when: Condition | None
    is_optional: bool
    timeout_s: float
    expected_s: float
    check: Check
    substitute: CompiledSubstitute | None
    retry: str
    is_idempotent: bool
    cache_s: float
    batch: BatchPlan | None


@dataclass(frozen=True, slots=True)
class Selection:
    """What one field mask needs of a plan."""

    nodes: tuple[str, ...]  # in order
    starts: tuple[str, ...]  # those that read no other
    waits_for: Mapping[str, int]  # how many answers each other node waits for
    dependents: Mapping[str, tuple[str, ...]]
    after_s: Mapping[str, float]  # how long what follows a node is expected to take
    results: tuple[Wire, ...]
    reads_of_request: frozenset[str]  # request fields that unconditional nodes read


@dataclass(frozen=True, slots=True)
class Confidence:
    """Where the response holds the confidence that substitutions lower."""

    get: Getter
    put: Setter

    def lower(self, response: Message, factor: float) -> None:
        """Multiplies what the response holds by `factor`; does nothing when it holds none."""
        value = self.get(response)
        if value is not ABSENT:
            self.put(response, value * factor)


class Plan:
    """One graph, compiled. Shared by all requests; nothing in it changes but a bounded cache."""

    def __init__(
        self,
        graph: pb.Graph,
        nodes: Mapping[str, NodePlan],
        results: Mapping[str, tuple[Wire, ...]],
        messages: tuple[type[Message], type[Message]],
    ) -> None:
        """`nodes` stand in an order in which they could run one by one; `results` are by field."""
        self.graph = graph
        self.nodes = nodes
        self.results = results
        self._all_results = frozenset(results)
        self.request, self.response = messages
        self.default_timeout_s = graph.default_timeout_ms / 1000
        self.reserve_s = graph.reserve_ms / 1000
        self.confidence = _confidence(graph, descriptor_of(self.response))
        self._selection = lru_cache(_SELECTIONS)(self._select)

    def select(self, paths: Iterable[str]) -> Selection:
        """Returns what must run for the response fields at `paths`; all of it for none.

        Raises `InvalidRequestError` for a path that the response does not have.
        """
        masks = [self._mask(path) for path in paths]
        if not masks:
            return self._selection(self._all_results)
        wanted = (
            name for name in self.results if any(mask.overlaps(parse_path(name)) for mask in masks)
        )
        return self._selection(frozenset(wanted))

    def _mask(self, text: str) -> Path:
        try:
            path = parse_path(text)
            field_type(descriptor_of(self.response), path)
        except (SourceError, FieldPathError) as error:
            known = ", ".join(field.name for field in descriptor_of(self.response).fields)
            raise InvalidRequestError(Violation("wanted", text, f"known: {known}")) from error
        return path

    def _select(self, results: frozenset[str]) -> Selection:
        wires = tuple(
            wire for name in self.results if name in results for wire in self.results[name]
        )
        reads: Edges = {name: node.reads for name, node in self.nodes.items()}
        ends = {wire.origin for wire in wires if wire.origin != REQUEST}
        chosen = ancestors(reads, sorted(ends))
        order = tuple(name for name in self.nodes if name in chosen)
        times_s = {name: self.nodes[name].expected_s for name in order}
        return Selection(
            nodes=order,
            starts=tuple(name for name in order if not reads[name]),
            waits_for={name: len(reads[name]) for name in order},
            dependents={o: tuple(n for n in order if o in reads[n]) for o in order},
            after_s=after_s(order, reads, times_s),
            results=wires,
            reads_of_request=frozenset(self._request_fields(order)),
        )

    def _request_fields(self, names: Iterable[str]) -> Iterator[str]:
        for node in (self.nodes[name] for name in names):
            if not node.when:
                sources = (wire.source for wire in node.wires)
                yield from (s.path.names[0] for s in sources if s and s.origin == REQUEST)


def compile_plan(graph: pb.Graph, pool: DescriptorPool, tables: FilePath = TABLES) -> Plan:
    """Compiles a graph that `check` found sound."""
    reads = edges(graph)
    by_name = {node.name: node for node in graph.nodes}
    methods = {name: find_method(pool, node.call) for name, node in by_name.items()}
    request, response = (find_message(pool, name) for name in (graph.request, graph.response))
    origins = {REQUEST: request} | {name: m.output_type for name, m in methods.items()}
    compiler = _Compiler(origins, tables)
    nodes = {
        name: compiler.node(by_name[name], methods[name], reads[name]) for name in in_order(reads)
    }
    results = {
        name: compile_wires({name: text}, response, origins, compiler.is_stated)
        for name, text in sorted(graph.result.items())
    }
    return Plan(graph, nodes, results, (GetMessageClass(request), GetMessageClass(response)))


class _Compiler:
    """Compiles nodes one after another; a node's sources are compiled before it."""

    def __init__(self, origins: Mapping[str, Descriptor], tables: FilePath) -> None:
        self._origins = origins
        self._tables = tables
        self._substitutes: dict[str, CompiledSubstitute] = {}

    def is_stated(self, origin: str, path: Path) -> bool:
        """Whether the substitute of node `origin` states `path`; nodes without one never do."""
        substitute = self._substitutes.get(origin)
        return substitute is not None and substitute.is_stated(path)

    def node(self, node: pb.Node, method: MethodDescriptor, reads: tuple[str, ...]) -> NodePlan:
        substitute = self._substitute(node, method)
        if substitute is not None:
            self._substitutes[node.name] = substitute
        return NodePlan(
            name=node.name,
            service=method.containing_service.full_name,
            method=f"/{method.containing_service.full_name}/{method.name}",
            request=GetMessageClass(method.input_type),
            response=GetMessageClass(method.output_type),
            reads=reads,
            wires=self._wires(node.fields, method.input_type),
            when=self._condition(node.when),
            is_optional=node.optional,
            timeout_s=node.timeout_ms / 1000,
            expected_s=expected_ms(node) / 1000,
            check=compile_check(method.output_type, node.expect),
            substitute=substitute,
            retry=node.retry or "none",
            is_idempotent=node.idempotent,
            cache_s=node.cache_s,
            batch=self._batch(node, method),
        )

    def _wires(self, fields: Mapping[str, str], target: Descriptor) -> tuple[Wire, ...]:
        return compile_wires(fields, target, self._origins, self.is_stated)

    def _condition(self, when: str) -> Condition | None:
        """Returns the test of `when` on the answers; a source that is absent is false."""
        if not when:
            return None
        (source,) = parse_sources(when)
        if isinstance(source, Constant):
            value = bool(source.value)
            return lambda answers: value
        origin, get = source.origin, compile_getter(self._origins[source.origin], source.path)
        return lambda answers: origin in answers and get(answers[origin]) is True

    def _batch(self, node: pb.Node, method: MethodDescriptor) -> BatchPlan | None:
        if not node.batch:
            return None
        return compile_batch(method, method.containing_service.methods_by_name[node.batch])

    def _substitute(self, node: pb.Node, method: MethodDescriptor) -> CompiledSubstitute | None:
        if not node.HasField("substitute"):
            return None
        response = method.output_type
        if node.substitute.values:
            return from_values(node.substitute, response, self._origins, self.is_stated)
        table = read_table(self._tables / f"{node.substitute.name}.yaml")
        return from_table(node.substitute, table, response, method.input_type)


def _confidence(graph: pb.Graph, response: Descriptor) -> Confidence | None:
    if not graph.confidence:
        return None
    path = parse_path(graph.confidence)
    return Confidence(compile_getter(response, path), compile_setter(response, path))
