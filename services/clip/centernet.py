"""Writes CenterNet (MobileNetV3, 80 COCO classes) as ONNX, for the build step only.

Objects as Points (Zhou, Wang, Krähenbühl 2019): a heat map for each class whose local maxima are
the centres of its objects. A tag needs no box, so the boxes' branch is left out and the maps are
reduced inside the model:

    image (N, S, S, 3) uint8 RGB  →  scores (N, 80) the highest point of each map,
                                     counts (N, 80) how many peaks reach PEAK, both float32
"""

from collections.abc import Sequence

import numpy as np
from onnx import TensorProto

from services.clip.tfjs import read_graph_model
from services.clip.tfjs_onnx import OnnxGraph

SIDE_PX = 320  # the source says 512; measured in `coco.py`
PEAK = 0.40  # of a centre that counts as an object
CLASS_COUNT = 80
_SUPPRESSION_PX = 3  # a peak is the largest of its 3 x 3 cells, as in the source


def convert(contents: Sequence[bytes]) -> bytes:
    """Turns the two files of the graph model into the bytes of an ONNX model."""
    source = read_graph_model(*contents)
    graph = OnnxGraph(source)
    known = {"tower_0/images": graph.pixels("image")}
    graph.run(source.nodes, known, ["tower_0/keypoints"])
    heat = graph.of("tower_0/keypoints")
    graph.add("Flatten", graph.add("GlobalMaxPool", heat), output="scores", axis=1)
    _count_peaks(graph, heat)
    outputs = {"scores": [CLASS_COUNT], "counts": [CLASS_COUNT]}
    return graph.model("centernet", outputs, SIDE_PX)


def _count_peaks(graph: OnnxGraph, heat: str) -> None:
    size = [_SUPPRESSION_PX] * 2
    around = graph.add("MaxPool", heat, kernel_shape=size, strides=[1, 1], pads=[1, 1, 1, 1])
    is_largest = graph.add("Equal", heat, around)
    is_high = graph.add("Greater", heat, graph.number(PEAK))
    peaks = graph.add("Cast", graph.add("And", is_largest, is_high), to=TensorProto.FLOAT)
    axes = graph.constant(np.array([2, 3], np.int64))
    graph.add("ReduceSum", peaks, axes, output="counts", keepdims=0)
