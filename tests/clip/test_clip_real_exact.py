"""Our path against transformers, on checkpoints that transformers wrote with random weights.

True architectures at small sizes; those of true size are `test_clip_true_size.py`. What trained
weights would answer is not tested here.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pytest

torch = pytest.importorskip("torch")
transformers = pytest.importorskip("transformers")

from services.clip.config import ClipConfig  # noqa: E402  # after the check for the extras
from services.clip.vit import graph, torch_towers  # noqa: E402
from services.clip.vit.architecture import Weights  # noqa: E402
from services.clip.vit.build import Towers, build  # noqa: E402
from services.clip.vit.checkpoint import Checkpoint, open_checkpoint  # noqa: E402
from services.clip.vit.hugging_face import read_architecture  # noqa: E402
from services.clip.vit.pictures import Pictures  # noqa: E402
from services.clip.vit.sight import ClipSight  # noqa: E402
from serving.engines.onnx import OnnxEngine  # noqa: E402
from serving.engines.torch import TorchEngine  # noqa: E402
from serving.engines.torch_files import read_program  # noqa: E402
from serving.media import decode_image  # noqa: E402
from tests.clip import tiny_clip  # noqa: E402
from tests.clip.embedding import LIMITS, cuts, embed, smallest_distance  # noqa: E402
from tests.clip.real_photos import real_photos  # noqa: E402
from tests.clip.reference_clip import TEXTS, Reference, write_checkpoint  # noqa: E402

pytestmark = pytest.mark.extras

TOLERANCE = 1e-4  # of an element of an embedding of length 1
SHAPES = {(32, "quick_gelu", 224), (16, "gelu", 224), (14, "quick_gelu", 224), (14, "gelu", 336)}


@dataclass(frozen=True)
class Loaded:
    """A small model of a true architecture, by both ways."""

    checkpoint: Checkpoint
    weights: Weights
    towers: Towers
    reference: Reference


@pytest.fixture(scope="module", params=sorted(SHAPES), ids=lambda shape: f"{shape[0]}-{shape[2]}")
def small(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Loaded:
    patch, activation, side = request.param
    sizes = {"num_hidden_layers": 3, "hidden_act": activation}
    config = transformers.CLIPConfig(
        vision_config={**sizes, "hidden_size": 96, "intermediate_size": 384,
                       "num_attention_heads": 3, "patch_size": patch, "image_size": side},
        text_config={**sizes, "hidden_size": 64, "intermediate_size": 256,
                     "num_attention_heads": 4, "eos_token_id": 2},
        projection_dim=40,
    )  # fmt: skip
    folder = tmp_path_factory.mktemp("small")
    path = write_checkpoint(folder / "weights", config)
    checkpoint = open_checkpoint(path)
    return Loaded(checkpoint, checkpoint.weights(), build(checkpoint, folder), Reference(path))


def test_small_models_of_all_architectures_agree(small: Loaded) -> None:
    contents = list(real_photos(6).values())
    images, expected = cuts(small.checkpoint, contents), small.reference.images(contents)
    assert np.abs(embed(small.towers.image.path, images) - expected).max() < TOLERANCE
    assert smallest_distance(expected) > 50 * TOLERANCE
    ids = small.checkpoint.tokenizer().batch(TEXTS)
    texts = OnnxEngine(small.towers.text.path).infer({"ids": ids})["embedding"]
    # An end token of 2 says: the place of the highest id, which is the first end token.
    assert np.abs(texts - small.reference.texts(TEXTS)).max() < TOLERANCE


def test_one_transposed_weight_is_found(small: Loaded, tmp_path: Path) -> None:
    contents = list(real_photos(2).values())
    name = "vision_model.encoder.layers.1.self_attn.v_proj.weight"
    weights = {**small.weights, name: small.weights[name].T}
    path = tmp_path / "mutant.onnx"
    pictures = small.checkpoint.pictures
    path.write_bytes(graph.image_model(small.checkpoint.architecture, weights, pictures))
    found = embed(path, cuts(small.checkpoint, contents))
    assert np.abs(found - small.reference.images(contents)).max() > 10 * TOLERANCE


@pytest.mark.parametrize("small", [(32, "quick_gelu", 224)], indirect=True, ids=["32-224"])
def test_torch_exports_agree(small: Loaded, tmp_path: Path) -> None:
    checkpoint, contents = small.checkpoint, list(real_photos(6).values())
    exports = write_exports(checkpoint, small.weights, tmp_path)
    crops, ids = cuts(checkpoint, contents), checkpoint.tokenizer().batch(TEXTS)
    pictures, sentences = small.reference.images(contents), small.reference.texts(TEXTS)
    for precision, tolerance in (("f32", TOLERANCE), ("bf16", 1e-2)):
        image, text = (
            TorchEngine(read_program(exports[part]), precision=precision)
            for part in ("image", "text")
        )
        # Relative: embeddings have length 1.
        assert np.linalg.norm(embed(image, crops) - pictures, axis=1).max() < tolerance
        texts = text.infer({"ids": ids})["embedding"]
        assert np.linalg.norm(texts - sentences, axis=1).max() < tolerance


def write_exports(checkpoint: Checkpoint, weights: Weights, folder: Path) -> Mapping[str, Path]:
    """Writes both towers as Torch exports."""
    contents = {
        "image": torch_towers.image_model(checkpoint.architecture, weights, checkpoint.pictures),
        "text": torch_towers.text_model(checkpoint.architecture, weights),
    }
    paths = {part: folder / f"{part}.pt2" for part in contents}
    for part, path in paths.items():
        path.write_bytes(contents[part])
    return paths


@pytest.mark.parametrize(
    ("name", "image", "text", "size"),
    [
        ("clip-vit-b-32", {}, {}, 512),
        ("clip-vit-b-16", {"patch_size": 16}, {}, 512),
        ("clip-vit-l-14", {"patch_size": 14}, {"hidden_size": 768}, 768),
        ("clip-vit-l-14-336", {"patch_size": 14, "image_size": 336}, {"hidden_size": 768}, 768),
    ],
)
def test_published_configurations_have_the_tensors_that_transformers_gives_them(
    name: str, image: dict[str, int], text: dict[str, int], size: int, tmp_path: Path
) -> None:
    if "-l-" in name:
        image = {**image, "hidden_size": 1024, "intermediate_size": 4096,
                 "num_hidden_layers": 24, "num_attention_heads": 16}  # fmt: skip
        text = {**text, "intermediate_size": 3072, "num_attention_heads": 12}
    config = transformers.CLIPConfig(vision_config=image, text_config=text, projection_dim=size)
    config.save_pretrained(tmp_path)
    architecture = read_architecture(tmp_path)
    with torch.device("meta"):
        state = transformers.CLIPModel(config).state_dict()
    expected = {key: tuple(tensor.shape) for key, tensor in state.items()}
    assert architecture.name == name
    assert architecture.shapes() == {
        key: shape for key, shape in expected.items() if not key.endswith("position_ids")
    }


def test_cut_pixels_of_forty_photographs_are_those_of_the_reference_processor() -> None:
    plain = transformers.CLIPImageProcessorPil(do_rescale=False, do_normalize=False)
    pictures = Pictures(224, 224)
    for content in real_photos(40).values():
        pixels = decode_image(content, LIMITS).pixels
        expected = plain(pixels, return_tensors="np")["pixel_values"][0].transpose(1, 2, 0)
        assert np.array_equal(pictures.cut(pixels), expected)  # the largest difference is 0


async def test_server_runs_the_weights_by_torch(tmp_path: Path) -> None:
    weights = tiny_clip.write_hugging_face(tmp_path / "weights")
    config = ClipConfig(model_repository=tmp_path, weights=weights, engine="torch")
    async with ClipSight.open(config, weights) as sight:
        (found,) = await sight.read(["a photo of a cat"])
        crop = np.random.default_rng(7).integers(0, 256, (64, 64, 3), np.uint8)
        seen = await sight.see(crop)
    checkpoint = open_checkpoint(weights)
    towers = build(checkpoint, tmp_path)
    assert sight.ref.version.endswith("-torch")
    ids = checkpoint.tokenizer().batch(["a photo of a cat"])
    text = OnnxEngine(towers.text.path).infer({"ids": ids})["embedding"]
    assert found == pytest.approx(text[0], abs=1e-5)
    image = OnnxEngine(towers.image.path).infer({"image": crop[None]})["embedding"]
    assert seen.embedding == pytest.approx(image[0], abs=1e-5)


@pytest.mark.parametrize("kind", ["float32", "float16", "bfloat16"])
@pytest.mark.parametrize("is_wrapped", [True, False])
def test_state_dict_that_torch_saved_is_the_same_checkpoint(
    kind: str, is_wrapped: bool, tmp_path: Path
) -> None:
    state = tiny_clip.open_clip_state(tiny_clip.hugging_face_state())
    tensors = {n: torch.from_numpy(t.copy()).to(getattr(torch, kind)) for n, t in state.items()}
    if is_wrapped:  # as training scripts save it
        tensors = {f"module.{n}": torch.nn.Parameter(t) for n, t in tensors.items()}
    path = tiny_clip.write_open_clip(tmp_path).with_name("epoch_32.pt")
    torch.save({"epoch": 32, "state_dict": tensors} if is_wrapped else tensors, path)

    weights = open_checkpoint(path).weights()
    for name, tensor in tiny_clip.hugging_face_state().items():
        rounded = torch.from_numpy(np.array(tensor)).to(getattr(torch, kind)).float().numpy()
        assert np.array_equal(weights[name], rounded), name
