"""Writes BlazeFace (the 256-pixel model for both cameras) as ONNX, for the build step only.

Bazarevsky et al., BlazeFace (2019): a single-shot detector with 2 anchors in each of 16 x 16 cells
and 6 in each of 8 x 8. All anchors have the image's size, so an anchor is its centre:

    image (N, 256, 256, 3) uint8 RGB  →  scores (N, 896) float32 in 0 … 1,
                                         boxes (N, 896, 4) left, top, right, bottom of the face as
                                         shares of width and height
"""

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from services.clip.tfjs import Node, read_graph_model
from services.clip.tfjs_onnx import OnnxGraph

SIDE_PX = 256
GRIDS = ((16, 2), (8, 6))  # cells a side, anchors in each
ANCHOR_COUNT = sum(cells * cells * anchors for cells, anchors in GRIDS)
_REGRESSED = 16  # per anchor: centre, size, and six landmarks that are not used
_HEADS = {"Identity": 1, "Identity_1": 1, "Identity_2": _REGRESSED, "Identity_3": _REGRESSED}


def convert(contents: Sequence[bytes]) -> bytes:
    """Turns the two files of the graph model into the bytes of an ONNX model."""
    source = read_graph_model(*contents)
    graph = OnnxGraph(source)
    before = {name: _before_reshape(source.nodes, name) for name in _HEADS}
    known = {"input": graph.pixels("image", scale=1 / 127.5, offset=-1.0)}
    graph.run(source.nodes, known, list(before.values()))
    heads = [_rows(graph, graph.of(before[name]), width) for name, width in _HEADS.items()]
    logits = graph.add("Concat", heads[0], heads[1], axis=1)
    flat = graph.constant(np.array([-1, ANCHOR_COUNT], np.int64))
    graph.add("Sigmoid", graph.add("Reshape", logits, flat), output="scores")
    _boxes(graph, graph.add("Concat", heads[2], heads[3], axis=1))
    return graph.model("blazeface", {"scores": [ANCHOR_COUNT], "boxes": [ANCHOR_COUNT, 4]}, SIDE_PX)


def anchors() -> NDArray[np.float32]:
    """Returns (896, 2): the anchors' centres x, y as shares, in the order of the outputs."""
    found = []
    for cells, count in GRIDS:
        centres = (np.arange(cells, dtype=np.float32) + 0.5) / cells
        y, x = np.meshgrid(centres, centres, indexing="ij")
        found.append(np.repeat(np.stack([x.ravel(), y.ravel()], axis=1), count, axis=0))
    return np.concatenate(found).astype(np.float32)


def _before_reshape(nodes: Sequence[Node], output: str) -> str:
    by_name = {node.name: node for node in nodes}
    return by_name[by_name[output].inputs[0]].inputs[0]


def _rows(graph: OnnxGraph, x: str, width: int) -> str:
    """Turns (N, C, H, W) into (N, anchors, width), cell by cell as the source does."""
    turned = graph.add("Transpose", x, perm=[0, 2, 3, 1])
    shape = graph.constant(np.array([0, -1, width], np.int64))
    return graph.add("Reshape", turned, shape)


def _boxes(graph: OnnxGraph, regressed: str) -> None:
    def part(first: int) -> str:
        ends = (np.array([value], np.int64) for value in (first, first + 2, 2))
        sliced = graph.add("Slice", regressed, *(graph.constant(end) for end in ends))
        return graph.add("Mul", sliced, graph.number(1 / SIDE_PX))

    centre = graph.add("Add", part(0), graph.constant(anchors()))
    half = graph.add("Mul", part(2), graph.number(0.5))
    corners = [graph.add("Sub", centre, half), graph.add("Add", centre, half)]
    graph.add("Concat", *corners, output="boxes", axis=2)
