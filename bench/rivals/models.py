"""The models of the serving benches, as a repository: an image model and two that cost nothing."""

import hashlib
from pathlib import Path

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper

IMAGE = "efficientnet-lite0"
MLP = "mlp"  # 32 -> 64 -> 1, float32
NOOP = "noop"  # 32 float32 in, the same out
_PULLED = Path(".fomofeed/models")


def write_repository(folder: Path) -> dict[str, Path]:
    """Fills `folder` in Triton's layout; returns each model's file. The image model is linked."""
    files = {MLP: _write(folder, MLP, _mlp()), NOOP: _write(folder, NOOP, _noop())}
    image = _PULLED / IMAGE
    if not image.is_dir():
        raise SystemExit(f"no {image}: `make models` gets it")
    (folder / IMAGE).symlink_to(image.resolve())
    return {IMAGE: image / "1" / "model.onnx", **files}


def _write(folder: Path, name: str, model: onnx.ModelProto) -> Path:
    path = folder / name / "1" / "model.onnx"
    path.parent.mkdir(parents=True)
    onnx.save(model, path)
    return path


def _mlp() -> onnx.ModelProto:
    rng = np.random.default_rng(1)
    weights = {
        "w1": rng.normal(size=(32, 64)).astype(np.float32),
        "b1": np.zeros(64, np.float32),
        "w2": rng.normal(size=(64, 1)).astype(np.float32),
        "b2": np.zeros(1, np.float32),
    }
    nodes = [
        helper.make_node("Gemm", ["x", "w1", "b1"], ["h"]),
        helper.make_node("Relu", ["h"], ["r"]),
        helper.make_node("Gemm", ["r", "w2", "b2"], ["y"]),
    ]
    return _model(nodes, 1, [numpy_helper.from_array(v, k) for k, v in weights.items()])


def _noop() -> onnx.ModelProto:
    return _model([helper.make_node("Identity", ["x"], ["y"])], 32, [])


def _model(
    nodes: list[onnx.NodeProto], width: int, weights: list[onnx.TensorProto]
) -> onnx.ModelProto:
    graph = helper.make_graph(
        nodes,
        "bench",
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, ["rows", 32])],
        [helper.make_tensor_value_info("y", TensorProto.FLOAT, ["rows", width])],
        weights,
    )
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)


def digest(path: Path) -> str:
    """Returns the SHA-256 of a file, for the report."""
    return hashlib.sha256(path.read_bytes()).hexdigest()
