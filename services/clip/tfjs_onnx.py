"""Writes the convolutional part of a TensorFlow.js graph as ONNX, for the build step only.

The source is laid out as batch, height, width, channel; ONNX engines want the channel second, so
kernels and constants are turned here once, and the pixels by one operation at the input. A size
that the source froze (its upsampling doubles) becomes a factor, so that the result takes images of
any size whose sides are multiples of 32. The bytes depend on the source alone.
"""

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np
import onnx
from numpy.typing import NDArray
from onnx import TensorProto, helper, numpy_helper

from services.clip.tfjs import GraphModel, Node, TfjsError

OPSET = 17


class OnnxGraph:
    """Nodes and constants in the order they were added, each named by a running number."""

    def __init__(self, model: GraphModel) -> None:
        self._weights = model.weights
        self._nodes: list[onnx.NodeProto] = []
        self._constants: list[onnx.TensorProto] = []
        self._names: dict[str, str] = {}  # what a node of the source is called here

    def add(self, operator: str, *inputs: str, output: str = "", **attributes: Any) -> str:
        """Adds a node; returns the name of its one output."""
        output = output or f"{operator}_{len(self._nodes)}"
        self._nodes.append(helper.make_node(operator, inputs, [output], **attributes))
        return output

    def constant(self, value: NDArray[Any]) -> str:
        """Adds a constant; returns its name."""
        name = f"constant_{len(self._constants)}"
        self._constants.append(numpy_helper.from_array(np.ascontiguousarray(value), name))
        return name

    def number(self, value: float) -> str:
        """Adds a float32 scalar; returns its name."""
        return self.constant(np.array(value, np.float32))

    def pixels(self, name: str, scale: float = 1.0, offset: float = 0.0) -> str:
        """Turns the input's uint8 (N, H, W, 3) into float32 (N, 3, H, W): x * scale + offset."""
        x = self.add("Cast", self.add("Transpose", name, perm=[0, 3, 1, 2]), to=TensorProto.FLOAT)
        x = self.add("Mul", x, self.number(scale)) if scale != 1 else x
        return self.add("Add", x, self.number(offset)) if offset else x

    def run(self, nodes: Sequence[Node], known: Mapping[str, str], until: Sequence[str]) -> None:
        """Adds what `until` needs of the source; `known` names what is there already."""
        self._names.update(known)
        wanted = _needed(nodes, until, known)
        for node in nodes:
            if node.name in wanted:
                if node.op not in _OPERATIONS:
                    raise TfjsError(f"{node.name} is a {node.op}, which is not understood")
                self._names[node.name] = _OPERATIONS[node.op](self, node)

    def of(self, source: str) -> str:
        """Returns what a node of the source, or its constant, is called here."""
        if source not in self._names:
            self._names[source] = self.constant(_channel_second(self.weight(source)))
        return self._names[source]

    def weight(self, source: str) -> NDArray[Any]:
        """Returns a constant of the source as it is laid out there."""
        if source not in self._weights:
            raise TfjsError(f"{source} is no constant")
        return self._weights[source]

    def model(self, name: str, outputs: Mapping[str, Sequence[int | str]], side: int) -> bytes:
        """Returns the model of one uint8 input `image`, (N, side, side, 3), with its outputs."""
        image = helper.make_tensor_value_info("image", TensorProto.UINT8, ["N", side, side, 3])
        infos = [
            helper.make_tensor_value_info(output, TensorProto.FLOAT, ["N", *shape])
            for output, shape in outputs.items()
        ]
        graph = helper.make_graph(self._nodes, name, [image], infos, self._constants)
        opset = helper.make_opsetid("", OPSET)
        model = helper.make_model(graph, opset_imports=[opset], ir_version=8, producer_name="")
        onnx.checker.check_model(model)
        return model.SerializeToString(deterministic=True)


def _needed(nodes: Sequence[Node], until: Sequence[str], known: Mapping[str, str]) -> set[str]:
    by_name = {node.name: node for node in nodes}
    wanted: set[str] = set()
    open_names = list(until)
    while open_names:
        name = open_names.pop()
        if name in by_name and name not in wanted and name not in known:
            wanted.add(name)
            open_names += by_name[name].inputs
    return wanted


def _channel_second(value: NDArray[Any]) -> NDArray[Any]:
    if value.ndim == 1:
        return value[:, None, None]
    return value.transpose(0, 3, 1, 2) if value.ndim == 4 else value


def _convolution(graph: OnnxGraph, node: Node) -> str:
    kernel = graph.weight(node.inputs[1])
    if node.op.endswith("Native"):  # (height, width, channels, 1)
        group, turned = kernel.shape[2], kernel.transpose(2, 3, 0, 1)
    else:  # (height, width, in, out)
        group, turned = 1, kernel.transpose(3, 2, 0, 1)
    strides = node.numbers("strides")[1:3]
    shape = list(kernel.shape[:2])
    pads = _pads(node, shape, strides)
    inputs = [graph.of(node.inputs[0]), graph.constant(turned)]
    fused = node.texts("fused_ops") if "fused_ops" in node.attributes else []
    if "BiasAdd" in fused:
        inputs.append(graph.constant(graph.weight(node.inputs[2])))
    x = graph.add("Conv", *inputs, kernel_shape=shape, strides=strides, pads=pads, group=group)
    for operation in fused:
        if operation != "BiasAdd":
            x = _activated(graph, operation, x)
    return x


def _pads(node: Node, shape: Sequence[int], strides: Sequence[int]) -> list[int]:
    """Returns top, left, bottom, right. SAME is TensorFlow's, for sides that the strides divide."""
    if node.text("padding") == "VALID":
        return [0, 0, 0, 0]
    totals = [max(size - stride, 0) for size, stride in zip(shape, strides, strict=True)]
    before = [total // 2 for total in totals]
    return [*before, *(total - first for total, first in zip(totals, before, strict=True))]


def _activated(graph: OnnxGraph, operation: str, x: str) -> str:
    if operation == "Relu6":
        return graph.add("Clip", x, graph.number(0), graph.number(6))
    if operation in ("Relu", "Sigmoid"):
        return graph.add(operation, x)
    raise TfjsError(f"unknown activation {operation}")


def _elementwise(graph: OnnxGraph, node: Node) -> str:
    operator = {"AddV2": "Add"}.get(node.op, node.op)
    return graph.add(operator, *(graph.of(name) for name in node.inputs))


def _activation(graph: OnnxGraph, node: Node) -> str:
    return _activated(graph, node.op, graph.of(node.inputs[0]))


def _mean(graph: OnnxGraph, node: Node) -> str:
    if graph.weight(node.inputs[1]).tolist() != [1, 2]:
        raise TfjsError(f"{node.name} is no mean over height and width")
    return graph.add("GlobalAveragePool", graph.of(node.inputs[0]))


def _concatenated(graph: OnnxGraph, node: Node) -> str:
    *parts, axis = node.inputs
    if int(graph.weight(axis)) not in (3, -1):
        raise TfjsError(f"{node.name} joins no channels")
    return graph.add("Concat", *(graph.of(name) for name in parts), axis=1)


def _doubled(graph: OnnxGraph, node: Node) -> str:
    scales = graph.constant(np.array([1, 1, 2, 2], np.float32))
    return graph.add(
        "Resize",
        graph.of(node.inputs[0]),
        "",
        scales,
        mode="linear",
        coordinate_transformation_mode="asymmetric",
    )


def _pooled(graph: OnnxGraph, node: Node) -> str:
    shape, strides = node.numbers("ksize")[1:3], node.numbers("strides")[1:3]
    pads = _pads(node, shape, strides)
    x = graph.of(node.inputs[0])
    return graph.add("MaxPool", x, kernel_shape=shape, strides=strides, pads=pads)


def _padded(graph: OnnxGraph, node: Node) -> str:
    sizes = graph.weight(node.inputs[1])[[0, 3, 1, 2]]
    pads = graph.constant(np.concatenate([sizes[:, 0], sizes[:, 1]]).astype(np.int64))
    return graph.add("Pad", graph.of(node.inputs[0]), pads)


def _same(graph: OnnxGraph, node: Node) -> str:
    return graph.of(node.inputs[0])


_OPERATIONS: Mapping[str, Callable[[OnnxGraph, Node], str]] = {
    **dict.fromkeys(("_FusedConv2D", "Conv2D"), _convolution),
    **dict.fromkeys(("FusedDepthwiseConv2dNative", "DepthwiseConv2dNative"), _convolution),
    **dict.fromkeys(("Add", "AddV2", "Mul"), _elementwise),
    **dict.fromkeys(("Relu", "Relu6", "Sigmoid"), _activation),
    "Mean": _mean,
    "ConcatV2": _concatenated,
    "ResizeBilinear": _doubled,
    "MaxPool": _pooled,
    "Pad": _padded,
    "Identity": _same,
}
