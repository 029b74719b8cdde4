import numpy as np
import pytest
from numpy.typing import NDArray

from services.clip.preprocess import centre_square
from services.clip.quality import SHORT_SIDE_PX
from serving.engines.onnx import OnnxEngine
from serving.media import decode_image
from serving.models.artifacts import DEFAULT_REPOSITORY, open_artifact
from tests.clip.embedding import LIMITS
from tests.clip.real_photos import enlarged, real_photos

ENGRAVING = "DepartmentStore.jpg"  # fine lines all over: 0.993


@pytest.fixture(scope="module")
def engine() -> OnnxEngine:
    return OnnxEngine(open_artifact(DEFAULT_REPOSITORY, "efficientnet-lite0").path)


def test_graph_written_without_torch_answers_like_the_torch_reference(engine: OnnxEngine) -> None:
    """The numbers are those of efficientnet-lite-pytorch 0.1.0 under torch 2.13.0 on the CPU."""
    y, x = np.mgrid[:224, :224]
    pattern = np.stack([x * y, x + 2 * y, 3 * x + y], axis=-1) % 256

    answer = engine.infer({"image": pattern.astype(np.uint8)[None]})

    probabilities, features = answer["probabilities"][0], answer["features"][0]
    best = np.argsort(probabilities)[::-1][:5]
    assert best.tolist() == [723, 782, 619, 854, 879]
    assert probabilities[best] == pytest.approx(
        [0.108455, 0.044159, 0.044024, 0.020199, 0.019801], abs=1e-5
    )
    assert features[:3] == pytest.approx([0.13675, 0.0, 0.06805], abs=1e-4)
    assert features.sum() == pytest.approx(185.5135, rel=1e-5)


def test_answer_does_not_depend_on_batch_mates(engine: OnnxEngine) -> None:
    images = np.random.default_rng(5).integers(0, 256, (5, 224, 224, 3), np.uint8)
    together = engine.infer({"image": images})
    for name, rows in together.items():
        alone = np.concatenate([engine.infer({"image": image[None]})[name] for image in images])
        assert np.abs(alone - rows).max() <= 1e-5


def test_artifact_is_what_its_manifest_promises(engine: OnnxEngine) -> None:
    manifest = open_artifact(DEFAULT_REPOSITORY, "efficientnet-lite0").manifest
    for promised, specs in ((manifest.inputs, engine.inputs), (manifest.outputs, engine.outputs)):
        found = [(spec.name, spec.dtype, spec.shape) for spec in specs]
        assert found == [(t.name, np.dtype(t.dtype), t.shape) for t in promised]


@pytest.mark.parametrize("count", [6, pytest.param(40, marks=pytest.mark.prove)])
def test_scaled_decoding_of_photographs_leaves_the_embedding_where_it_is(
    count: int, engine: OnnxEngine
) -> None:
    files = [enlarged(file) for name, file in real_photos(count).items() if name != ENGRAVING]
    reduced, whole = (embedded(engine, files, enough_px) for enough_px in (SHORT_SIDE_PX, None))
    assert (reduced * whole).sum(axis=1).min() >= 0.995


def embedded(engine: OnnxEngine, files: list[bytes], enough_px: int | None) -> NDArray[np.float32]:
    crops = [centre_square(decode_image(file, LIMITS, enough_px).pixels) for file in files]
    rows = np.concatenate([engine.infer({"image": crop[None]})["features"] for crop in crops])
    return np.asarray(rows / np.linalg.norm(rows, axis=1, keepdims=True))
