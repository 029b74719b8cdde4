"""EfficientNet-Lite0 as a Torch module, from the nodes of its ONNX file. For comparison only."""

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import onnx
import torch
from onnx import numpy_helper
from torch import Tensor
from torch.nn import functional

from serving.engines.onnx import OnnxEngine
from serving.engines.torch_files import Program, program_of


class Lite0(torch.nn.Module):
    """Runs the graph's nodes one by one: the operations that it has, and no others."""

    def __init__(self, path: Path) -> None:
        super().__init__()
        graph = onnx.load(path).graph
        for constant in graph.initializer:
            values = torch.from_numpy(numpy_helper.to_array(constant).copy())
            self.register_buffer(_plain(constant.name), values)
        self._constants = {constant.name for constant in graph.initializer}
        self._nodes = [
            (node.op_type, list(node.input), node.output[0], _attributes(node))
            for node in graph.node
        ]

    def forward(self, image: Tensor) -> tuple[Tensor, Tensor]:
        known: dict[str, Tensor] = {"image": image}

        def of(name: str) -> Any:
            return getattr(self, _plain(name)) if name in self._constants else known[name]

        for operator, inputs, output, attributes in self._nodes:
            known[output] = _OPERATIONS[operator]([of(name) for name in inputs], attributes)
        return known["probabilities"], known["features"]


def program(path: Path) -> Program:
    """Returns the module with the tensors that the ONNX file names."""
    engine = OnnxEngine(path)
    return program_of(Lite0(path).eval(), engine.inputs, engine.outputs)


def _plain(name: str) -> str:
    return "constant_" + name.replace(".", "_")


def _attributes(node: onnx.NodeProto) -> dict[str, Any]:
    return {entry.name: onnx.helper.get_attribute_value(entry) for entry in node.attribute}


def _convolved(x: Sequence[Any], attributes: Mapping[str, Any]) -> Tensor:
    top, left, bottom, right = attributes["pads"]
    padded = functional.pad(x[0], (left, right, top, bottom))
    stride, group = attributes["strides"], attributes["group"]
    return functional.conv2d(padded, x[1], x[2], stride=stride, groups=group)


_OPERATIONS: Mapping[str, Callable[[Sequence[Any], Mapping[str, Any]], Tensor]] = {
    "Transpose": lambda x, attributes: x[0].permute(attributes["perm"]),
    "Cast": lambda x, _: x[0].float(),
    "Sub": lambda x, _: x[0] - x[1],
    "Mul": lambda x, _: x[0] * x[1],
    "Add": lambda x, _: x[0] + x[1],
    "Conv": _convolved,
    "Clip": lambda x, _: x[0].clamp(0, 6),
    "GlobalAveragePool": lambda x, _: x[0].mean(dim=(2, 3), keepdim=True),
    "Flatten": lambda x, attributes: x[0].flatten(attributes["axis"]),
    "Gemm": lambda x, _: functional.linear(x[0], x[1], x[2]),
    "Softmax": lambda x, _: x[0].softmax(dim=-1),
}
