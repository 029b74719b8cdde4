"""Models of true size with random weights against transformers: minutes, 4 GB, 2 GB of disk."""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray

torch = pytest.importorskip("torch")
transformers = pytest.importorskip("transformers")

from services.clip.vit import graph  # noqa: E402  # after the check for the extras
from services.clip.vit.architecture import Weights  # noqa: E402
from services.clip.vit.build import Towers, build  # noqa: E402
from services.clip.vit.checkpoint import Checkpoint, open_checkpoint  # noqa: E402
from services.clip.vit.sight import enough_px  # noqa: E402
from serving.engines.onnx import OnnxEngine  # noqa: E402
from serving.engines.torch import TorchEngine  # noqa: E402
from serving.engines.torch_files import read_program  # noqa: E402
from tests.clip.embedding import (  # noqa: E402
    THREADS,
    centred_cosines,
    cuts,
    embed,
    smallest_distance,
)
from tests.clip.real_photos import enlarged, real_photos  # noqa: E402
from tests.clip.reference_clip import TEXTS, Reference, write_checkpoint  # noqa: E402
from tests.clip.test_clip_real_exact import TOLERANCE, write_exports  # noqa: E402

pytestmark = [pytest.mark.extras, pytest.mark.prove]


@dataclass(frozen=True)
class Loaded:
    """A model by both ways."""

    checkpoint: Checkpoint
    weights: Weights
    towers: Towers
    reference: Reference
    photos: Mapping[str, bytes]
    expected: NDArray[np.float32]  # (photos, size), by transformers


def loaded(folder: Path, config: transformers.CLIPConfig, photo_count: int) -> Loaded:
    path = write_checkpoint(folder / "weights", config, max_shard_size="200MB")
    assert len(list(path.glob("*.safetensors"))) > 1
    checkpoint = open_checkpoint(path)
    photos, reference = real_photos(photo_count), Reference(path)
    expected = reference.images(list(photos.values()))
    towers = build(checkpoint, folder)
    return Loaded(checkpoint, checkpoint.weights(), towers, reference, photos, expected)


@pytest.fixture(scope="module")
def b32(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Loaded]:
    yield loaded(tmp_path_factory.mktemp("b32"), transformers.CLIPConfig(), 40)


def check_pictures(model: Loaded) -> None:
    images = cuts(model.checkpoint, list(model.photos.values()))
    found = embed(model.towers.image.path, images)
    assert np.abs(found - model.expected).max() < TOLERANCE
    assert smallest_distance(found) > 50 * TOLERANCE


def check_texts(model: Loaded) -> None:
    ids = model.checkpoint.tokenizer().batch(TEXTS)
    found = OnnxEngine(model.towers.text.path, threads=THREADS).infer({"ids": ids})["embedding"]
    assert np.abs(found - model.reference.texts(TEXTS)).max() < TOLERANCE


def test_pictures_of_vit_b_32_agree_and_lie_far_apart(b32: Loaded) -> None:
    assert b32.checkpoint.architecture.name == "clip-vit-b-32"
    check_pictures(b32)


def test_one_transposed_weight_of_vit_b_32_is_found(b32: Loaded, tmp_path: Path) -> None:
    name = "vision_model.encoder.layers.7.self_attn.v_proj.weight"
    weights = {**b32.weights, name: b32.weights[name].T}
    path = tmp_path / "mutant.onnx"
    pictures = b32.checkpoint.pictures
    path.write_bytes(graph.image_model(b32.checkpoint.architecture, weights, pictures))
    found = embed(path, cuts(b32.checkpoint, list(b32.photos.values())[:8]))
    assert np.abs(found - b32.expected[:8]).max() > 10 * TOLERANCE


def test_texts_of_vit_b_32_agree(b32: Loaded) -> None:
    check_texts(b32)
    tokenizer = b32.checkpoint.tokenizer()
    engine = OnnxEngine(b32.towers.text.path, threads=THREADS)
    found, expected = engine.infer({"ids": tokenizer.batch(TEXTS)})["embedding"], [*TEXTS]
    assert np.array_equal(found[1], found[-1])  # nothing, and nothing before an end token
    assert smallest_distance(found[:-1]) > 50 * TOLERANCE
    for at in (0, 2):  # a short text alone is cut shorter, and is the same
        ids = tokenizer.batch([expected[at]], multiple=8)
        assert np.abs(engine.infer({"ids": ids})["embedding"][0] - found[at]).max() < TOLERANCE


def test_scaled_decoding_leaves_the_embedding_where_it_is(b32: Loaded) -> None:
    contents = [enlarged(content) for content in b32.photos.values()]
    checkpoint = b32.checkpoint
    reduced = cuts(checkpoint, contents, enough_px(checkpoint.pictures))
    whole = cuts(checkpoint, contents)
    assert (reduced != whole).any(axis=(1, 2, 3)).all()
    found, expected = (embed(b32.towers.image.path, images) for images in (reduced, whole))
    assert (found * expected).sum(axis=1).min() > 0.995
    assert centred_cosines(found, expected).min() > 0.995


def test_torch_exports_of_vit_b_32_agree(b32: Loaded, tmp_path: Path) -> None:
    exports = write_exports(b32.checkpoint, b32.weights, tmp_path)
    ids = b32.checkpoint.tokenizer().batch(TEXTS)
    images, texts = cuts(b32.checkpoint, list(b32.photos.values())[:4]), b32.reference.texts(TEXTS)
    for precision, tolerance in (("f32", TOLERANCE), ("bf16", 1e-2)):
        image, text = (
            TorchEngine(read_program(exports[part]), threads=THREADS, precision=precision)
            for part in ("image", "text")
        )
        off = np.linalg.norm(embed(image, images) - b32.expected[:4], axis=1)
        assert off.max() < tolerance  # relative: embeddings have length 1
        found = text.infer({"ids": ids})["embedding"]
        assert np.linalg.norm(found - texts, axis=1).max() < tolerance


def test_vit_l_14_agrees(tmp_path: Path) -> None:
    config = transformers.CLIPConfig(
        vision_config={"patch_size": 14, "hidden_size": 1024, "intermediate_size": 4096,
                       "num_hidden_layers": 24, "num_attention_heads": 16},
        text_config={"hidden_size": 768, "intermediate_size": 3072, "num_attention_heads": 12},
        projection_dim=768,
    )  # fmt: skip
    model = loaded(tmp_path, config, 4)
    assert model.checkpoint.architecture.name == "clip-vit-l-14"
    check_pictures(model)
    check_texts(model)
