"""CLIP in bfloat16 on a GPU, by captured graphs, against float32 on the CPU. `make gpu-check`."""

from pathlib import Path

import numpy as np
import pytest

torch = pytest.importorskip("torch")

from bench.clip.random_weights import B32, L14, write_random_weights  # noqa: E402
from services.clip.vit import graph, torch_towers  # noqa: E402
from services.clip.vit.checkpoint import open_checkpoint  # noqa: E402
from serving.engines.torch import TorchEngine  # noqa: E402
from serving.engines.torch_files import read_program  # noqa: E402
from tests.clip.embedding import cuts, embed  # noqa: E402
from tests.clip.real_photos import real_photos  # noqa: E402

pytestmark = [
    pytest.mark.gpu,
    pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device"),
]

ROWS = (1, 2, 8)
RELATIVE = 1e-2  # of embeddings of length 1


@pytest.mark.parametrize("name", [B32, L14])
def test_embeddings_of_captured_batches_are_those_of_the_cpu(name: str, tmp_path: Path) -> None:
    checkpoint = open_checkpoint(write_random_weights(tmp_path / name, name))
    weights, pictures = checkpoint.weights(), checkpoint.pictures
    onnx, export = tmp_path / "model.onnx", tmp_path / "model.pt2"
    onnx.write_bytes(graph.image_model(checkpoint.architecture, weights, pictures))
    export.write_bytes(torch_towers.image_model(checkpoint.architecture, weights, pictures))
    images = cuts(checkpoint, list(real_photos(8).values()))
    expected = embed(onnx, images)

    engine = TorchEngine(
        read_program(export),
        device="cuda",
        precision="bf16",
        captured=[((rows, *images.shape[1:]),) for rows in ROWS],
    )

    for rows in (*ROWS, 3):  # the last was not captured
        found = engine.infer({"image": images[:rows]})["embedding"]
        assert np.linalg.norm(found - expected[:rows], axis=1).max() < RELATIVE
