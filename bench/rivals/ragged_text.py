"""An ONNX text encoder made ragged: all but its attention runs on the tokens in a line.

What stands in the way is little: positions must begin anew with each text, attention must stay
within it, and a mean is over its own tokens. Attention gets the texts side by side, as long as the
longest, since its time grows with the square of what it sees.
"""

from collections.abc import Iterator
from typing import Any

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper

ENDS = "ends"  # int64 [texts]: tokens of all texts up to each one's end
_IDS = ("input_ids", "token_type_ids")
_CONSTANTS = {"0": 0, "1": 1, "[0]": [0], "[1]": [1], "[1,2]": [1, 2], "[-1]": [-1]}


def make_ragged(
    model: onnx.ModelProto, *, positions: str, mask: str, split: str, merged: str, hidden: str
) -> None:
    """Rewrites an encoder of `input_ids` and `token_type_ids`, (texts, tokens), in place.

    Names of tensors: `positions` of the tokens (1, tokens); `mask`, true where a token may look
    (texts, 1, tokens, tokens); `split`, the shape by which queries, keys and values are split into
    heads, and `merged`, the one by which these are put together, each joined from texts, tokens
    and the rest; `hidden`, the last layer (texts, tokens, width). Afterwards the inputs are flat,
    `ENDS` is another, and the only output is `vector`, the mean of each text's tokens, of length 1.
    """
    graph = model.graph
    arrays = {name: np.array(value, np.int64) for name, value in _CONSTANTS.items()}
    graph.initializer.extend(numpy_helper.from_array(a, name) for name, a in arrays.items())
    renamed = {positions: "positions_row", mask: "may_look", **{n: f"{n}_row" for n in _IDS}}
    nodes = [*_places()]
    for node in graph.node:
        node.input[:] = [renamed.get(name, name) for name in node.input]
        nodes += _rewritten(node, split, merged)
    nodes += _means(hidden)
    del graph.node[:], graph.input[:], graph.output[:]
    graph.node.extend(_needed(nodes, "vector"))
    for name, size in {**dict.fromkeys(_IDS, "tokens"), ENDS: "texts"}.items():
        graph.input.append(helper.make_tensor_value_info(name, TensorProto.INT64, [size]))
    vector = helper.make_tensor_value_info("vector", TensorProto.FLOAT, ["texts", None])
    graph.output.append(vector)


def _node(kind: str, inputs: str, output: str, **attributes: Any) -> onnx.NodeProto:
    return helper.make_node(kind, inputs.split(), [output], **attributes)


def _places() -> Iterator[onnx.NodeProto]:
    """Which text a token is of, its place there, and where both are when texts are side by side."""
    for name in _IDS:
        yield _node("Unsqueeze", f"{name} [0]", f"{name}_row")
    yield _node("Size", _IDS[0], "tokens")
    yield _node("Range", "0 tokens 1", "token")
    yield _node("Unsqueeze", f"{ENDS} [1]", "ends_column")
    yield _node("Unsqueeze", "token [0]", "token_row")
    yield _node("LessOrEqual", "ends_column token_row", "is_past")
    yield _node("Cast", "is_past", "past", to=TensorProto.INT64)
    yield _node("ReduceSum", "past [0]", "text", keepdims=0)
    yield _node("Slice", f"{ENDS} [0] [-1] [0]", "inner_ends")
    yield _node("Concat", "[0] inner_ends", "starts", axis=0)
    yield _node("Gather", "starts text", "start")
    yield _node("Sub", "token start", "position")
    yield _node("Unsqueeze", "position [0]", "positions_row")
    yield _node("Sub", f"{ENDS} starts", "lengths")
    yield _node("ReduceMax", "lengths", "longest", keepdims=0)
    yield _node("Range", "0 longest 1", "place")
    yield _node("Unsqueeze", "place [0]", "place_row")
    yield _node("Unsqueeze", "lengths [1]", "lengths_column")
    yield _node("Less", "place_row lengths_column", "is_token")
    yield _node("Unsqueeze", "is_token [1,2]", "may_look")
    yield _node("Sub", "lengths_column 1", "last_column")
    yield _node("Min", "place_row last_column", "place_filled")
    yield _node("Unsqueeze", "starts [1]", "starts_column")
    yield _node("Add", "starts_column place_filled", "side_by_side")  # (texts, longest): a token
    yield _node("Mul", "text longest", "text_begin")
    yield _node("Add", "text_begin position", "in_line")  # (tokens): where it is side by side
    yield _node("Shape", ENDS, "texts")
    yield _node("Unsqueeze", "longest [0]", "longest_size")


def _rewritten(node: onnx.NodeProto, split: str, merged: str) -> Iterator[onnx.NodeProto]:
    """The node; around it what puts texts side by side before attention, and back in line."""
    output = node.output[0]
    if output in (split, merged):
        node.input[:2] = ["texts", "longest_size"]
    if node.op_type == "Reshape" and node.input[1] == split:
        yield _node("Squeeze", f"{node.input[0]} [0]", f"{output}_line")
        yield _node("Gather", f"{output}_line side_by_side", f"{output}_side")
        node.input[0] = f"{output}_side"
    if node.op_type == "Reshape" and node.input[1] == merged:
        node.output[0] = f"{output}_side"
        yield node
        yield _node("Shape", f"{output}_side", f"{output}_width", start=2)
        yield _node("Concat", f"[-1] {output}_width", f"{output}_shape", axis=0)
        yield _node("Reshape", f"{output}_side {output}_shape", f"{output}_flat")
        yield _node("Gather", f"{output}_flat in_line", f"{output}_line")
        yield _node("Unsqueeze", f"{output}_line [0]", output)
    else:
        yield node


def _means(hidden: str) -> Iterator[onnx.NodeProto]:
    """The mean of the tokens of each text, of length 1."""
    yield _node("Squeeze", f"{hidden} [0]", "hidden_line")
    yield _node("Squeeze", "texts [0]", "text_count")
    yield _node("Range", "0 text_count 1", "number")
    yield _node("Unsqueeze", "number [1]", "number_column")
    yield _node("Unsqueeze", "text [0]", "text_row")
    yield _node("Equal", "number_column text_row", "is_own")
    yield _node("Cast", "is_own", "own", to=TensorProto.FLOAT)
    yield _node("MatMul", "own hidden_line", "sum")
    yield _node("LpNormalization", "sum", "vector", axis=-1, p=2)


def _needed(nodes: list[onnx.NodeProto], output: str) -> list[onnx.NodeProto]:
    """The nodes that an output comes from, in their order."""
    wanted, kept = {output}, []
    for node in reversed(nodes):
        if wanted & {*node.output}:
            wanted |= {*node.input}
            kept.append(node)
    return kept[::-1]
