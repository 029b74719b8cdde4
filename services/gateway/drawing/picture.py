"""What a picture of a graph shows, whatever it is drawn with."""

from collections.abc import Sequence
from dataclasses import dataclass

from fomofeed.gateway.v1 import orchestrator_service_pb2 as pb
from services.gateway.check import expected_ms
from services.gateway.drawing.layout import Edge
from services.gateway.edges import after_s, edges, in_order, origins, sources_or_none
from services.gateway.sources import REQUEST

ANSWER = "answer"


@dataclass(frozen=True, slots=True)
class Box:
    """One node: its heading, lines about its time and policies, and what stands in for it."""

    name: str
    heading: str
    lines: tuple[str, ...] = ()
    substitute: str = ""
    is_optional: bool = False


@dataclass(frozen=True, slots=True)
class Picture:
    """Boxes in an order in which they could run, `request` first and `answer` last."""

    title: str
    boxes: tuple[Box, ...]
    edges: tuple[Edge, ...]


def picture_of(graph: pb.Graph) -> Picture:
    """Describes a graph that `check` found sound."""
    reads = edges(graph)
    order = in_order(reads)
    nodes = {node.name: node for node in graph.nodes}
    times = {name: expected_ms(node) for name, node in nodes.items()}
    after = after_s(order, reads, times)
    boxes = [_box(nodes[name], graph, after[name]) for name in order]
    request = Box(REQUEST, REQUEST, (_short(graph.request),))
    answer = Box(ANSWER, ANSWER, (_short(graph.response),))
    links = [(other, name) for name in order for other in reads[name]]
    links += [(REQUEST, name) for name in order if not reads[name]]
    links += [(name, ANSWER) for name in order if name in _results(graph)]
    title = f"{graph.name}: {graph.default_timeout_ms} ms, {graph.reserve_ms} ms kept back"
    return Picture(title, (request, *boxes, answer), tuple(links))


def _box(node: pb.Node, graph: pb.Graph, after_ms: float) -> Box:
    latest_ms = graph.default_timeout_ms - graph.reserve_ms - after_ms
    by_ms = min(latest_ms, node.timeout_ms)
    return Box(
        node.name,
        node.name,
        (
            node.call.rpartition("/")[2],
            f"takes {expected_ms(node):g} ms, ends by {by_ms:g} ms",
            *_policies(node),
        ),
        _substitute(node.substitute) if node.HasField("substitute") else "",
        node.optional,
    )


def _policies(node: pb.Node) -> Sequence[str]:
    words = [f"when {node.when}"] if node.when else []
    words += ["optional"] if node.optional else []
    words += [f"retry {node.retry}"] if node.retry not in ("", "none") else []
    words += [f"cache {node.cache_s:g} s"] if node.cache_s else []
    words += ["batch"] if node.batch else []
    return (", ".join(words),) if words else ()


def _substitute(substitute: pb.Substitute) -> str:
    return f"else {substitute.name} (confidence × {substitute.confidence_factor:.3g})"


def _results(graph: pb.Graph) -> set[str]:
    return {o for text in graph.result.values() for o in origins(sources_or_none(text))}


def _short(name: str) -> str:
    return name.rpartition(".")[2]
