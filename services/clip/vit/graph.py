"""Writes one tower as an ONNX graph, for the build step only.

    image (N, side, side, 3) uint8 RGB   →  embedding (N, size) float32 of L2 norm 1
    ids (N, T) int64, 2 <= T <= context  →  embedding (N, size) float32 of L2 norm 1

What does not depend on the input is computed here: normalisation of the pixels is folded into the
patch convolution, the attention's scale into the query projection, the class embedding into the
position table. The last block computes only the place that is pooled. Attention of the texts is
causal, so what follows the end token never matters and texts may be cut to the longest of a batch.
"""

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import onnx
from numpy.typing import NDArray
from onnx import TensorProto, helper, numpy_helper

from services.clip.vit.architecture import Architecture, Tower, Weights
from services.clip.vit.pictures import Pictures

OPSET, IR_VERSION = 17, 8
HIDDEN_SCORE = np.float32(-1e30)  # of a later place: its weight underflows to 0
_TINY = np.float32(1e-12)  # keeps an embedding of zeros from becoming NaN

Pool = Callable[[str], str]  # from (N, T, width) to (N, 1, width)


def image_model(architecture: Architecture, weights: Weights, pictures: Pictures) -> bytes:
    """Returns the ONNX file of the image tower."""
    graph = Graph(weights)
    tower, side_px = architecture.image, architecture.side_px
    x = _patches(graph, architecture, pictures)
    x = graph.norm(x, "vision_model.pre_layrnorm", tower.epsilon)
    first = graph.whole([0], "first_place")
    x = _blocks(graph, tower, x, lambda y: graph.node("Gather", [y, first], axis=1))
    x = graph.norm(x, "vision_model.post_layernorm", tower.epsilon)
    graph.embedded(x, "visual_projection.weight")
    entry = ("image", TensorProto.UINT8, ["N", side_px, side_px, 3])
    return graph.file(f"{architecture.name}-image", entry, architecture.embedding)


def text_model(architecture: Architecture, weights: Weights) -> bytes:
    """Returns the ONNX file of the text tower."""
    graph = Graph(weights)
    tower = architecture.text
    start, axis = graph.whole([0], "start"), graph.whole([1], "axis")
    length = graph.node("Slice", [graph.node("Shape", ["ids"]), axis, graph.whole([2], "two")])
    words = graph.weight("text_model.embeddings.token_embedding.weight")
    places = graph.weight("text_model.embeddings.position_embedding.weight")
    places = graph.node("Slice", [places, start, length])
    x = graph.node("Add", [graph.node("Gather", [words, "ids"]), places])
    mask = _causal_mask(graph, tower.positions, length)
    end = graph.node("Equal", ["ids", graph.whole([architecture.end_id], "end_id")])
    ends = graph.node("Cast", [end], to=TensorProto.INT32)
    place = graph.node("ArgMax", [ends], axis=1, keepdims=1)  # (N, 1), of the first end token
    pooled_mask = graph.node("Unsqueeze", [graph.node("Gather", [mask, place]), axis])

    def pool(y: str) -> str:
        return graph.node("Unsqueeze", [graph.node("GatherND", [y, place], batch_dims=1), axis])

    x = _blocks(graph, tower, x, pool, mask, pooled_mask)
    x = graph.norm(x, "text_model.final_layer_norm", tower.epsilon)
    graph.embedded(x, "text_projection.weight")
    entry = ("ids", TensorProto.INT64, ["N", "T"])
    return graph.file(f"{architecture.name}-text", entry, architecture.embedding)


class Graph:
    """Nodes and constants in the order they were added, each with a running number as name."""

    def __init__(self, weights: Weights) -> None:
        self._weights = weights
        self._nodes: list[onnx.NodeProto] = []
        self._constants: dict[str, onnx.TensorProto] = {}

    def node(
        self, operator: str, inputs: Sequence[str], output: str = "", **attributes: Any
    ) -> str:
        output = output or f"{operator}_{len(self._nodes)}"
        self._nodes.append(helper.make_node(operator, inputs, [output], **attributes))
        return output

    def constant(self, value: NDArray[Any], name: str) -> str:
        if name not in self._constants:
            self._constants[name] = numpy_helper.from_array(np.ascontiguousarray(value), name)
        return name

    def whole(self, values: Sequence[int], name: str) -> str:
        return self.constant(np.array(values, np.int64), name)

    def number(self, value: float, name: str) -> str:
        return self.constant(np.array(value, np.float32), name)

    def weight(self, name: str) -> str:
        return self.constant(self.array(name), name)

    def array(self, name: str) -> NDArray[np.float32]:
        return self._weights[name].astype(np.float32, copy=False)

    def linear(self, x: str, name: str, scale: float = 1.0) -> str:
        """A linear layer on the last dimension; `scale` multiplies what comes out."""
        weight = self.array(f"{name}.weight").T * np.float32(scale)
        bias = self.array(f"{name}.bias") * np.float32(scale)
        product = self.node("MatMul", [x, self.constant(weight, f"{name}.weight")])
        return self.node("Add", [product, self.constant(bias, f"{name}.bias")])

    def norm(self, x: str, name: str, epsilon: float) -> str:
        inputs = [x, self.weight(f"{name}.weight"), self.weight(f"{name}.bias")]
        return self.node("LayerNormalization", inputs, axis=-1, epsilon=epsilon)

    def activated(self, x: str, activation: str) -> str:
        if activation == "quick_gelu":
            factor = self.number(1.702, "quick_gelu_factor")
            return self.node("Mul", [x, self.node("Sigmoid", [self.node("Mul", [x, factor])])])
        root = self.number(float(np.sqrt(2)), "root_of_two")
        erf = self.node("Erf", [self.node("Div", [x, root])])
        doubled = self.node("Mul", [x, self.node("Add", [erf, self.number(1, "one")])])
        return self.node("Mul", [doubled, self.number(0.5, "half")])

    def embedded(self, x: str, projection: str) -> None:
        """Ends the graph: (N, 1, width) becomes (N, size) of length 1."""
        rows = self.node("Squeeze", [x, self.whole([1], "axis")])
        points = self.node("MatMul", [rows, self.constant(self.array(projection).T, projection)])
        length = self.node("ReduceL2", [points], axes=[-1], keepdims=1)
        length = self.node("Max", [length, self.number(float(_TINY), "tiny")])
        self.node("Div", [points, length], "embedding")

    def file(self, name: str, entry: tuple[str, int, list[Any]], size: int) -> bytes:
        """Returns the checked model with one input and the output `embedding`."""
        output = helper.make_tensor_value_info("embedding", TensorProto.FLOAT, ["N", size])
        constants = list(self._constants.values())
        inputs = [helper.make_tensor_value_info(*entry)]
        graph = helper.make_graph(self._nodes, name, inputs, [output], constants)
        opsets = [helper.make_opsetid("", OPSET)]
        model = helper.make_model(
            graph, opset_imports=opsets, ir_version=IR_VERSION, producer_name=""
        )
        content: bytes = model.SerializeToString(deterministic=True)
        onnx.checker.check_model(content)  # given the model, it would serialise it once more
        return content


def _patches(graph: Graph, architecture: Architecture, pictures: Pictures) -> str:
    """From pixels to (N, places, width): patches, class embedding and positions."""
    name = "vision_model.embeddings"
    kernels = graph.array(f"{name}.patch_embedding.weight").astype(np.float64)
    deviation = np.array(pictures.deviation)[None, :, None, None]
    mean = np.array(pictures.mean)[None, :, None, None]
    bias = -(kernels * (mean / deviation)).sum(axis=(1, 2, 3))
    kernels = kernels / (255 * deviation)
    x = graph.node("Transpose", ["image"], perm=[0, 3, 1, 2])
    x = graph.node("Cast", [x], to=TensorProto.FLOAT)
    weight = graph.constant(kernels.astype(np.float32), "patches.weight")
    sides = [architecture.patch_px] * 2
    x = graph.node("Conv", [x, weight], kernel_shape=sides, strides=sides)
    x = graph.node("Reshape", [x, graph.whole([0, 0, -1], "flat")])
    x = graph.node("Transpose", [x], perm=[0, 2, 1])
    x = graph.node("Pad", [x, graph.whole([0, 1, 0, 0, 0, 0], "one_place_before")])
    table = graph.array(f"{name}.position_embedding.weight").astype(np.float64)
    table[0] += graph.array(f"{name}.class_embedding")
    table[1:] += bias
    return graph.node("Add", [x, graph.constant(table.astype(np.float32), "places")])


def _causal_mask(graph: Graph, positions: int, length: str) -> str:
    """(T, T): 0 for a place and those before it, a very low score for those after it."""
    whole = np.triu(np.full((positions, positions), HIDDEN_SCORE, np.float32), 1)
    mask = graph.constant(whole, "causal_mask")
    both = graph.node("Concat", [length, length], axis=0)
    return graph.node("Slice", [mask, graph.whole([0, 0], "origin"), both])


def _blocks(
    graph: Graph, tower: Tower, x: str, pool: Pool, mask: str = "", pooled_mask: str = ""
) -> str:
    *blocks, last = tower.blocks()
    for block in blocks:
        x = _block(graph, tower, block, x, lambda y: y, mask)
    return _block(graph, tower, last, x, pool, pooled_mask)


def _block(graph: Graph, tower: Tower, block: str, x: str, pool: Pool, mask: str) -> str:
    normed = graph.norm(x, f"{block}.layer_norm1", tower.epsilon)
    x = graph.node("Add", [pool(x), _attention(graph, tower, block, pool(normed), normed, mask)])
    hidden = graph.norm(x, f"{block}.layer_norm2", tower.epsilon)
    hidden = graph.activated(graph.linear(hidden, f"{block}.mlp.fc1"), tower.activation)
    return graph.node("Add", [x, graph.linear(hidden, f"{block}.mlp.fc2")])


def _attention(graph: Graph, tower: Tower, block: str, asking: str, x: str, mask: str) -> str:
    name, width = f"{block}.self_attn", tower.width // tower.heads
    heads = graph.whole([0, 0, tower.heads, width], f"heads_of_{tower.heads}")

    def part(x: str, letter: str, order: list[int], scale: float = 1.0) -> str:
        y = graph.linear(x, f"{name}.{letter}_proj", scale)
        return graph.node("Transpose", [graph.node("Reshape", [y, heads])], perm=order)

    queries = part(asking, "q", [0, 2, 1, 3], width**-0.5)
    keys, values = part(x, "k", [0, 2, 3, 1]), part(x, "v", [0, 2, 1, 3])
    scores = graph.node("MatMul", [queries, keys])  # (N, heads, asking, places)
    if mask:
        scores = graph.node("Add", [scores, mask])
    mixed = graph.node("MatMul", [graph.node("Softmax", [scores], axis=-1), values])
    mixed = graph.node("Transpose", [mixed], perm=[0, 2, 1, 3])
    joined = graph.node("Reshape", [mixed, graph.whole([0, 0, -1], "flat")])
    return graph.linear(joined, f"{name}.out_proj")
