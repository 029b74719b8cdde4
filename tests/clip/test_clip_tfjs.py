import base64
import json
from typing import Any

import numpy as np
import onnxruntime as ort
import pytest

from services.clip.tfjs import TfjsError, read_graph_model
from services.clip.tfjs_onnx import OnnxGraph

KERNEL = np.random.default_rng(4).normal(size=(3, 3, 3, 2)).astype(np.float32)
BIAS = np.array([0.5, -0.25], np.float32)


def text(value: str) -> str:
    return base64.b64encode(value.encode()).decode()


def node(name: str, op: str, inputs: list[str], **attributes: Any) -> dict[str, Any]:
    return {"name": name, "op": op, "input": inputs, "attr": attributes}


def files(*extra: dict[str, Any], op: str = "_FusedConv2D") -> tuple[bytes, bytes]:
    """A graph model of one strided convolution with bias and ReLU, weights as float16."""
    fused = {"list": {"s": [text("BiasAdd"), text("Relu")]}}
    convolution = node(
        "conv",
        op,
        ["image", "kernel", "bias"],
        strides={"list": {"i": ["1", "2", "2", "1"]}},
        padding={"s": text("SAME")},
        fused_ops=fused,
    )
    half = {"dtype": "float16", "original_dtype": "float32"}
    weights = [
        {"name": "kernel", "shape": [3, 3, 3, 2], "dtype": "float32", "quantization": half},
        {"name": "bias", "shape": [2], "dtype": "float32", "quantization": half},
        {"name": "axes", "shape": [2], "dtype": "int32"},
    ]
    nodes = [node("image", "Placeholder", []), convolution, *extra]
    document = {
        "modelTopology": {"node": nodes},
        "weightsManifest": [{"paths": ["x.bin"], "weights": weights}],
    }
    axes = np.array([1, 2], "<i4")
    binary = KERNEL.astype("<f2").tobytes() + BIAS.astype("<f2").tobytes() + axes.tobytes()
    return json.dumps(document).encode(), binary


def converted(topology: bytes, binary: bytes, until: str) -> bytes:
    model = read_graph_model(topology, binary)
    graph = OnnxGraph(model)
    graph.run(model.nodes, {"image": graph.pixels("image", scale=1 / 255)}, [until])
    graph.add("Identity", graph.of(until), output="out")
    return graph.model("tiny", {"out": ["C", "H", "W"]}, side=8)


def answer(model: bytes, image: np.ndarray) -> np.ndarray:
    return ort.InferenceSession(model).run(None, {"image": image[None]})[0][0]


def reference(image: np.ndarray) -> np.ndarray:
    """TensorFlow's SAME for an even side, kernel 3 and stride 2: a pixel after, none before."""
    x = np.pad(image.astype(np.float32) / 255, ((0, 1), (0, 1), (0, 0)))
    kernel, bias = KERNEL.astype(np.float16).astype(np.float32), BIAS
    rows = [
        [np.tensordot(x[r : r + 3, c : c + 3], kernel, 3) + bias for c in range(0, 8, 2)]
        for r in range(0, 8, 2)
    ]
    return np.maximum(np.array(rows), 0).transpose(2, 0, 1)


def test_convolution_answers_as_tensorflow_defines_it() -> None:
    image = np.random.default_rng(5).integers(0, 256, (8, 8, 3), np.uint8)
    found = answer(converted(*files(), "conv"), image)
    assert found == pytest.approx(reference(image), abs=1e-5)


def test_mean_over_the_picture_keeps_its_channels() -> None:
    image = np.random.default_rng(6).integers(0, 256, (8, 8, 3), np.uint8)
    found = answer(converted(*files(node("mean", "Mean", ["conv", "axes"])), "mean"), image)
    assert found[:, 0, 0] == pytest.approx(reference(image).mean(axis=(1, 2)), abs=1e-5)


def test_same_source_gives_the_same_bytes() -> None:
    assert converted(*files(), "conv") == converted(*files(), "conv")


def test_unknown_operation_is_named() -> None:
    with pytest.raises(TfjsError, match="conv is a Conv3D, which is not understood"):
        converted(*files(op="Conv3D"), "conv")


@pytest.mark.parametrize("end", [0, 1, 40, -1])
def test_truncated_weights_are_refused(end: int) -> None:
    topology, binary = files()
    with pytest.raises(TfjsError):
        read_graph_model(topology, binary[:end])


@pytest.mark.parametrize("topology", [b"", b"{}", b"[]", b'{"weightsManifest": []}'])
def test_damaged_topology_is_refused(topology: bytes) -> None:
    with pytest.raises(TfjsError, match="damaged graph model"):
        read_graph_model(topology, b"")
