"""The edges of a graph: which node reads which, in what order they can run."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

from fomofeed.gateway.v1 import orchestrator_service_pb2 as pb
from services.gateway.sources import FieldSource, Source, SourceError, parse_sources

Edges = Mapping[str, tuple[str, ...]]  # node -> the nodes whose answers it reads


@dataclass(frozen=True, slots=True)
class CycleError(Exception):
    """Nodes that wait for each other; the first stands at the end again."""

    names: tuple[str, ...]


def edges(graph: pb.Graph) -> Edges:
    """Returns what each node reads, in the order of the file; only nodes of the graph."""
    names = [node.name for node in graph.nodes]
    origins_of = {node.name: set(_origins(node)) for node in graph.nodes}
    return {name: tuple(o for o in names if o in origins_of[name]) for name in names}


def _origins(node: pb.Node) -> Iterator[str]:
    for text in (*node.fields.values(), *([node.when] if node.when else [])):
        yield from origins(sources_or_none(text))


def sources_or_none(text: str) -> tuple[Source, ...]:
    """Returns the parsed sources, none where `text` is not written in the grammar."""
    try:
        return parse_sources(text)
    except SourceError:
        return ()


def origins(sources: Sequence[Source]) -> Iterator[str]:
    """Yields the request or nodes that `sources` read."""
    return (source.origin for source in sources if isinstance(source, FieldSource))


def in_order(reads: Edges) -> list[str]:
    """Returns the nodes, each after all that it reads, otherwise in the given order.

    Raises `CycleError`.
    """
    ordered: dict[str, None] = {}

    def visit(name: str, path: tuple[str, ...]) -> None:
        if name in path:
            raise CycleError((*path[path.index(name) :], name))
        if name not in ordered:
            for other in reads[name]:
                visit(other, (*path, name))
            ordered[name] = None

    for name in reads:
        visit(name, ())
    return list(ordered)


def ancestors(reads: Edges, names: Sequence[str]) -> set[str]:
    """Returns `names` and all nodes that they read, directly or not. `reads` has no cycle."""
    found: set[str] = set()
    waiting = list(names)
    while waiting:
        name = waiting.pop()
        if name not in found:
            found.add(name)
            waiting.extend(reads[name])
    return found


def longest_s(order: Sequence[str], reads: Edges, times_s: Mapping[str, float]) -> dict[str, float]:
    """Returns when each node ends, if each takes its time and starts when it can."""
    ends: dict[str, float] = {}
    for name in order:
        ends[name] = max((ends[other] for other in reads[name]), default=0.0) + times_s[name]
    return ends


def after_s(order: Sequence[str], reads: Edges, times_s: Mapping[str, float]) -> dict[str, float]:
    """Returns how long what follows each node takes: the longest path behind it, in seconds."""
    after = dict.fromkeys(order, 0.0)
    for name in reversed(order):
        for other in reads[name]:
            if other in after:
                after[other] = max(after[other], after[name] + times_s[name])
    return after
