"""Writes EfficientNet-Lite0 as an ONNX graph from its Torch weights, for the build step only.

The architecture is that of the TPU repository's `efficientnet_lite_builder`: EfficientNet-B0's
blocks without squeeze-and-excitation and with ReLU6. Batch norm is folded into the convolutions,
and normalisation is part of the graph, so that uint8 pixels are all that a caller has to send:

    image (N, 224, 224, 3) uint8 RGB  →  probabilities (N, 1000), features (N, 1280) float32

The bytes depend on the weights alone, so the result's digest can be pinned.
"""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import onnx
from numpy.typing import NDArray
from onnx import TensorProto, helper, numpy_helper

from services.clip.torch_file import read_state_dict

SIDE_PX = 224
OPSET = 17
BATCH_NORM_EPSILON = 1e-3
# (repeats, kernel, stride, expansion, input channels, output channels) of each stage.
STAGES = (
    (1, 3, 1, 1, 32, 16),
    (2, 3, 2, 6, 16, 24),
    (2, 5, 2, 6, 24, 40),
    (3, 3, 2, 6, 40, 80),
    (3, 5, 1, 6, 80, 112),
    (4, 5, 2, 6, 112, 192),
    (1, 3, 1, 6, 192, 320),
)
Weights = Mapping[str, NDArray[Any]]


@dataclass(frozen=True, slots=True)
class Block:
    """One inverted residual block."""

    name: str  # prefix of its weights
    kernel: int
    stride: int
    expansion: int
    has_skip: bool


def blocks() -> Iterator[Block]:
    """Yields the 16 blocks of Lite0 in their order."""
    index = 0
    for repeats, kernel, stride, expansion, inputs, outputs in STAGES:
        for repeat in range(repeats):
            is_first = repeat == 0
            has_skip = not is_first or (stride == 1 and inputs == outputs)
            yield Block(f"_blocks.{index}", kernel, stride if is_first else 1, expansion, has_skip)
            index += 1


def convert(contents: Sequence[bytes]) -> bytes:
    """Turns the one `.pth` file into the bytes of an ONNX model."""
    (content,) = contents
    graph = _Graph(read_state_dict(content))
    x = graph.normalised("image")
    x = graph.relu6(graph.convolution(x, "_conv_stem", "_bn0", kernel=3, stride=2))
    for block in blocks():
        x = _block(graph, x, block)
    x = graph.relu6(graph.convolution(x, "_conv_head", "_bn1", kernel=1, stride=1))
    graph.classified(x)
    return graph.model().SerializeToString(deterministic=True)


def _block(graph: "_Graph", inputs: str, block: Block) -> str:
    x, name = inputs, block.name
    if block.expansion != 1:
        x = graph.relu6(graph.convolution(x, f"{name}._expand_conv", f"{name}._bn0", 1, 1))
    depthwise = f"{name}._depthwise_conv"
    x = graph.relu6(graph.convolution(x, depthwise, f"{name}._bn1", block.kernel, block.stride))
    x = graph.convolution(x, f"{name}._project_conv", f"{name}._bn2", 1, 1)
    return graph.node("Add", [x, inputs]) if block.has_skip else x


class _Graph:
    """Nodes and initializers in the order they were added, with a running number as name."""

    def __init__(self, weights: Weights) -> None:
        self._weights = weights
        self._nodes: list[onnx.NodeProto] = []
        self._constants: list[onnx.TensorProto] = []

    def node(
        self, operator: str, inputs: Sequence[str], output: str = "", **attributes: Any
    ) -> str:
        output = output or f"{operator}_{len(self._nodes)}"
        self._nodes.append(helper.make_node(operator, inputs, [output], **attributes))
        return output

    def constant(self, value: NDArray[Any], name: str) -> str:
        self._constants.append(numpy_helper.from_array(np.ascontiguousarray(value), name))
        return name

    def normalised(self, image: str) -> str:
        x = self.node("Transpose", [image], perm=[0, 3, 1, 2])
        x = self.node("Cast", [x], to=TensorProto.FLOAT)
        x = self.node("Sub", [x, self.constant(np.array([127], np.float32), "mean")])
        return self.node("Mul", [x, self.constant(np.array([1 / 128], np.float32), "scale")])

    def convolution(self, x: str, name: str, norm: str, kernel: int, stride: int) -> str:
        kernels, bias = _folded(self._weights, name, norm)
        inputs = [x, self.constant(kernels, f"{name}.weight"), self.constant(bias, f"{name}.bias")]
        group = len(kernels) if kernels.shape[1] == 1 else 1
        pads = _same_padding(kernel, stride)
        shape = [kernel, kernel]
        return self.node(
            "Conv", inputs, kernel_shape=shape, strides=[stride] * 2, pads=pads, group=group
        )

    def relu6(self, x: str) -> str:
        if not any(constant.name == "six" for constant in self._constants):
            self.constant(np.array(0, np.float32), "zero")
            self.constant(np.array(6, np.float32), "six")
        return self.node("Clip", [x, "zero", "six"])

    def classified(self, x: str) -> None:
        x = self.node("GlobalAveragePool", [x])
        features = self.node("Flatten", [x], "features", axis=1)
        weight = self.constant(self._weights["_fc.weight"], "_fc.weight")
        bias = self.constant(self._weights["_fc.bias"], "_fc.bias")
        logits = self.node("Gemm", [features, weight, bias], transB=1)
        self.node("Softmax", [logits], "probabilities", axis=-1)

    def model(self) -> onnx.ModelProto:
        image = helper.make_tensor_value_info(
            "image", TensorProto.UINT8, ["N", SIDE_PX, SIDE_PX, 3]
        )
        outputs = [
            helper.make_tensor_value_info(name, TensorProto.FLOAT, ["N", size])
            for name, size in (("probabilities", 1000), ("features", 1280))
        ]
        graph = helper.make_graph(self._nodes, "lite0", [image], outputs, self._constants)
        model = helper.make_model(
            graph, opset_imports=[helper.make_opsetid("", OPSET)], ir_version=8, producer_name=""
        )
        onnx.checker.check_model(model)
        return model


def _folded(weights: Weights, name: str, norm: str) -> tuple[NDArray[Any], NDArray[Any]]:
    """Returns kernel and bias of a convolution followed by its batch norm, as float32."""
    gamma, beta, mean, variance = (
        weights[f"{norm}.{part}"].astype(np.float64)
        for part in ("weight", "bias", "running_mean", "running_var")
    )
    scale = gamma / np.sqrt(variance + BATCH_NORM_EPSILON)
    kernels = weights[f"{name}.weight"].astype(np.float64) * scale[:, None, None, None]
    return kernels.astype(np.float32), (beta - mean * scale).astype(np.float32)


def _same_padding(kernel: int, stride: int) -> list[int]:
    """Returns TensorFlow's SAME padding (top, left, bottom, right); all strided inputs are even."""
    total = kernel - stride
    before = total // 2
    return [before, before, total - before, total - before]
