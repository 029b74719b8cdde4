"""A small layered layout, after Sugiyama: left to right, every edge one layer at a time.

A node's layer is the longest way to it; an edge over several layers bends around the boxes in
between, for which invisible points keep room. Points of a layer are put in the order of the mean
place of their neighbours, to and fro, which unties most crossings. Deterministic.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import pairwise

Edge = tuple[str, str]
Point = tuple[float, float]

_SWEEPS = 8


@dataclass(frozen=True, slots=True)
class Layout:
    """Places in units: x counts layers, y counts rows; a row is as high as the highest box."""

    places: Mapping[str, Point]
    bends: Mapping[Edge, tuple[Point, ...]]  # from the first point after the source on
    layer_count: int
    row_count: float


def lay_out(names: Sequence[str], edges: Sequence[Edge]) -> Layout:
    """Places `names`, given in an order in which each stands after what leads to it."""
    layer = _layers(names, edges)
    chains = {edge: _chain(edge, layer) for edge in edges}
    layers: list[list[str]] = [[] for _ in range(max(layer.values()) + 1)]
    for name in names:
        layers[layer[name]].append(name)
    links: list[Edge] = []
    for (source, target), chain in chains.items():
        for offset, point in enumerate(chain, start=1):
            layers[layer[source] + offset].append(point)
        steps = (source, *chain, target)
        links += pairwise(steps)
    for sweep in range(_SWEEPS):
        _untie(layers, links, is_forward=sweep % 2 == 0)
    places = _places(layers)
    bends = {edge: tuple(places[point] for point in chain) for edge, chain in chains.items()}
    rows = max(len(one) for one in layers)
    return Layout({name: places[name] for name in names}, bends, len(layers), float(rows))


def _layers(names: Sequence[str], edges: Sequence[Edge]) -> dict[str, int]:
    layer = dict.fromkeys(names, 0)
    for name in names:
        for source, target in edges:
            if target == name:
                layer[name] = max(layer[name], layer[source] + 1)
    return layer


def _chain(edge: Edge, layer: Mapping[str, int]) -> tuple[str, ...]:
    """Invisible points for the layers between the ends."""
    source, target = edge
    return tuple(f"{source}>{target}@{at}" for at in range(layer[source] + 1, layer[target]))


def _untie(layers: list[list[str]], links: Sequence[Edge], *, is_forward: bool) -> None:
    order = range(1, len(layers)) if is_forward else range(len(layers) - 2, -1, -1)
    for index in order:
        before = layers[index - 1 if is_forward else index + 1]
        place = {name: at - (len(before) - 1) / 2 for at, name in enumerate(before)}
        means = {}
        for at, name in enumerate(layers[index]):
            ends = [(a if b == name else b) for a, b in links if name in (a, b)]
            seen = [place[end] for end in ends if end in place]
            means[name] = sum(seen) / len(seen) if seen else at - (len(layers[index]) - 1) / 2
        layers[index].sort(key=means.__getitem__)


def _places(layers: Sequence[Sequence[str]]) -> dict[str, Point]:
    """Centres every layer about the same line."""
    height = max(len(layer) for layer in layers)
    return {
        name: (float(x), y + (height - len(layer)) / 2)
        for x, layer in enumerate(layers)
        for y, name in enumerate(layer)
    }
