"""Our path against transformers, on checkpoints that transformers wrote with random weights.

True architectures and one of true size; what trained weights would answer is not tested here.
"""

import io
import random
import unicodedata
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray
from PIL import Image

torch = pytest.importorskip("torch")
transformers = pytest.importorskip("transformers")

from services.clip.config import ClipConfig  # noqa: E402  # after the check for the extras
from services.clip.vit import graph, torch_towers  # noqa: E402
from services.clip.vit.architecture import Weights  # noqa: E402
from services.clip.vit.build import Towers, build  # noqa: E402
from services.clip.vit.checkpoint import Checkpoint, open_checkpoint  # noqa: E402
from services.clip.vit.sight import ClipSight, enough_px  # noqa: E402
from services.clip.vit.tokenizer import Tokenizer  # noqa: E402
from serving.engines.onnx import OnnxEngine  # noqa: E402
from serving.engines.torch import TorchEngine  # noqa: E402
from serving.engines.torch_files import read_program  # noqa: E402
from serving.media import ImageLimits, decode_image  # noqa: E402
from tests.clip import tiny_clip  # noqa: E402
from tests.clip.real_photos import real_photos  # noqa: E402
from tests.clip.reference_clip import Reference, vocabulary, write_checkpoint  # noqa: E402

pytestmark = pytest.mark.extras

TOLERANCE = 1e-4  # of an element of an embedding of length 1
THREADS = 2
LIMITS = ImageLimits()
TEXTS = (
    "a photo of a cat.", "", "Ein Hund läuft 3,5 km 🐕", "猫が好きです", "قطة على الأريكة",
    "don't  stop\tnow!!", "👨‍👩‍👧‍👦 family", "word " * 200, "x" * 2200, "<|endoftext|> twice",
)  # fmt: skip


@dataclass(frozen=True)
class Loaded:
    """A ViT-B/32 of true size, by both ways."""

    checkpoint: Checkpoint
    weights: Weights
    towers: Towers
    reference: Reference
    photos: Mapping[str, bytes]
    expected: NDArray[np.float32]  # (photos, 512), by transformers


@pytest.fixture(scope="module")
def b32(tmp_path_factory: pytest.TempPathFactory) -> Loaded:
    folder = tmp_path_factory.mktemp("b32")
    path = write_checkpoint(folder / "weights", transformers.CLIPConfig(), max_shard_size="200MB")
    assert len(list(path.glob("*.safetensors"))) > 1
    checkpoint = open_checkpoint(path)
    photos, reference = real_photos(40), Reference(path)
    expected = reference.images(list(photos.values()))
    towers = build(checkpoint, folder)
    return Loaded(checkpoint, checkpoint.weights(), towers, reference, photos, expected)


def cuts(
    checkpoint: Checkpoint,
    contents: list[bytes],
    enough: int | None,
    limits: ImageLimits = LIMITS,
) -> NDArray[np.uint8]:
    decoded = [decode_image(content, limits, enough).pixels for content in contents]
    return np.stack([checkpoint.pictures.cut(pixels) for pixels in decoded])


def embed(model: Path, images: NDArray[np.uint8]) -> NDArray[np.float32]:
    engine = OnnxEngine(model, threads=THREADS)
    parts = [images[at : at + 8] for at in range(0, len(images), 8)]
    return np.concatenate([engine.infer({"image": part})["embedding"] for part in parts])


def centred_cosines(one: NDArray[Any], other: NDArray[Any]) -> NDArray[Any]:
    """Cosines around the mean of all: pictures have much in common, which would hide a change."""
    mean = other.mean(axis=0)
    one, other = one - mean, other - mean
    lengths = np.linalg.norm(one, axis=1) * np.linalg.norm(other, axis=1)
    return np.asarray((one * other).sum(axis=1) / lengths)


def test_pictures_of_a_true_size_model_agree_and_lie_far_apart(b32: Loaded) -> None:
    images = cuts(b32.checkpoint, list(b32.photos.values()), None)
    found = embed(b32.towers.image.path, images)
    assert np.abs(found - b32.expected).max() < TOLERANCE
    apart = np.abs(found[:, None] - found[None]).max(axis=2)
    assert apart[~np.eye(len(found), dtype=bool)].min() > 50 * TOLERANCE
    assert b32.checkpoint.architecture.name == "clip-vit-b-32"
    mutant(b32, images[:8])


def mutant(b32: Loaded, images: NDArray[np.uint8]) -> None:
    """One transposed weight of 197 must fail the same check."""
    name = "vision_model.encoder.layers.7.self_attn.v_proj.weight"
    weights = {**b32.weights, name: b32.weights[name].T}
    path = b32.towers.image.path.with_name("mutant.onnx")
    path.write_bytes(
        graph.image_model(b32.checkpoint.architecture, weights, b32.checkpoint.pictures)
    )
    assert np.abs(embed(path, images) - b32.expected[: len(images)]).max() > 10 * TOLERANCE


def test_texts_of_a_true_size_model_agree(b32: Loaded) -> None:
    tokenizer = b32.checkpoint.tokenizer()
    engine = OnnxEngine(b32.towers.text.path, threads=THREADS)
    found = engine.infer({"ids": tokenizer.batch(TEXTS)})["embedding"]
    expected = b32.reference.texts(TEXTS)
    assert np.abs(found - expected).max() < TOLERANCE
    assert np.array_equal(found[1], found[-1])  # nothing, and nothing before an end token
    apart = np.abs(expected[:-1, None] - expected[None, :-1]).max(axis=2)
    assert apart[~np.eye(len(TEXTS) - 1, dtype=bool)].min() > 50 * TOLERANCE
    for at in (0, 2):  # a short text alone is cut shorter, and is the same
        alone = engine.infer({"ids": tokenizer.batch([TEXTS[at]], multiple=8)})["embedding"]
        assert np.abs(alone[0] - expected[at]).max() < TOLERANCE


def enlarged(content: bytes) -> bytes:
    """A photograph and its mirror images as one JPEG of 1024 px or more: its detail is real."""
    pixels = decode_image(content, ImageLimits()).pixels
    while min(pixels.shape[:2]) < 1024:
        pixels = np.concatenate([pixels, pixels[:, ::-1]], axis=1)
        pixels = np.concatenate([pixels, pixels[::-1]], axis=0)
    buffer = io.BytesIO()
    Image.fromarray(pixels).save(buffer, "JPEG", quality=92)
    return buffer.getvalue()


def test_scaled_decoding_leaves_the_embedding_where_it_is(b32: Loaded) -> None:
    contents = [enlarged(content) for content in b32.photos.values()]
    limits = ImageLimits(max_bytes=64 << 20)
    checkpoint = b32.checkpoint
    reduced = cuts(checkpoint, contents, enough_px(checkpoint.pictures), limits)
    whole = cuts(checkpoint, contents, None, limits)
    assert (reduced != whole).any(axis=(1, 2, 3)).all()
    found, expected = (embed(b32.towers.image.path, images) for images in (reduced, whole))
    assert (found * expected).sum(axis=1).min() > 0.995
    assert centred_cosines(found, expected).min() > 0.995


def test_cut_pixels_are_those_of_the_reference_processor(b32: Loaded) -> None:
    plain = transformers.CLIPImageProcessorPil(do_rescale=False, do_normalize=False)
    images = cuts(b32.checkpoint, list(b32.photos.values()), None)
    for content, image in zip(b32.photos.values(), images, strict=True):
        picture = decode_image(content, ImageLimits()).pixels
        expected = plain(picture, return_tensors="np")["pixel_values"][0].transpose(1, 2, 0)
        assert np.array_equal(image, expected)


@pytest.mark.parametrize(
    ("patch", "activation", "side"), [(16, "gelu", 224), (14, "quick_gelu", 224), (14, "gelu", 336)]
)
def test_smaller_models_of_the_other_architectures_agree(
    patch: int, activation: str, side: int, tmp_path: Path
) -> None:
    sizes = {"num_hidden_layers": 3, "hidden_act": activation}
    config = transformers.CLIPConfig(
        vision_config={**sizes, "hidden_size": 96, "intermediate_size": 384,
                       "num_attention_heads": 3, "patch_size": patch, "image_size": side},
        text_config={**sizes, "hidden_size": 64, "intermediate_size": 256,
                     "num_attention_heads": 4, "eos_token_id": 2},
        projection_dim=40,
    )  # fmt: skip
    path = write_checkpoint(tmp_path / "weights", config)
    checkpoint, contents = open_checkpoint(path), list(real_photos(6).values())
    towers, reference = build(checkpoint, tmp_path), Reference(path)
    found = embed(towers.image.path, cuts(checkpoint, contents, None))
    assert np.abs(found - reference.images(contents)).max() < TOLERANCE
    ids = checkpoint.tokenizer().batch(TEXTS)
    texts = OnnxEngine(towers.text.path).infer({"ids": ids})["embedding"]
    # An end token of 2 says: the place of the highest id, which is the first end token.
    assert np.abs(texts - reference.texts(TEXTS)).max() < TOLERANCE


@pytest.mark.parametrize(("precision", "tolerance"), [("f32", TOLERANCE), ("bf16", 1e-2)])
def test_torch_exports_of_a_true_size_model_agree(
    precision: str, tolerance: float, b32: Loaded, exports: Mapping[str, Path]
) -> None:
    tokenizer = b32.checkpoint.tokenizer()
    contents = list(b32.photos.values())[:2]
    image, text = (
        TorchEngine(read_program(exports[part]), threads=THREADS, precision=precision)
        for part in ("image", "text")
    )
    images = image.infer({"image": cuts(b32.checkpoint, contents, None)})["embedding"]
    texts = text.infer({"ids": tokenizer.batch(TEXTS[:5])})["embedding"]
    off = np.linalg.norm(images - b32.expected[:2], axis=1)  # relative: embeddings have length 1
    assert off.max() < tolerance
    assert np.linalg.norm(texts - b32.reference.texts(TEXTS[:5]), axis=1).max() < tolerance


@pytest.fixture(scope="module")
def exports(b32: Loaded, tmp_path_factory: pytest.TempPathFactory) -> Mapping[str, Path]:
    """Both towers of the true-size model as Torch exports."""
    architecture, weights = b32.checkpoint.architecture, b32.weights
    contents = {
        "image": torch_towers.image_model(architecture, weights, b32.checkpoint.pictures),
        "text": torch_towers.text_model(architecture, weights),
    }
    paths = {part: tmp_path_factory.mktemp(part) / "model.pt2" for part in contents}
    for part, path in paths.items():
        path.write_bytes(contents[part])
    return paths


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


ALPHABETS = (
    "abcdefghijklmnopqrstuvwxyz", "ABC XYZ", "0123456789 ½²Ⅷ", ".,!?'\"()-–—…#@&%$€",
    "áéíñöüßçÀÉÎŠžøÅæŒ", "αβγδεΣΩς", "абвгдеЖЗИЙ", "אבגדה שלום", "ابتثج مرحبا", "你好世界天气",
    "こんにちはカタカナ", "안녕하세요", "हिन्दी नमस्ते", "ไทยสวัสดี", "😀😂👍🏽❤️🔥🐕🎉", "👨‍👩‍👧‍👦🏳️‍🌈🇩🇪",
    "\t\n\r \x0b\x85\xa0\u2003\u3000",
    "\x00\x1f\x7f\u200b\u200d\ufeff\ufffd", "ǅﬁİıſK", "e\u0301a\u0308",
)  # fmt: skip
SNIPPETS = (
    "'s",
    "n't",
    "'LL ",
    "<|endoftext|>",
    "<|STARTOFTEXT|>",
    "<|startoftext|>",
    "!'re",
    "  ",
)


def strings(count: int) -> list[str]:
    """Seeded strings of mixed scripts, and of any characters that Unicode 3.2 knew."""
    source = random.Random(5)
    old = [chr(p) for p in range(0x20, 0x20000) if unicodedata.ucd_3_2_0.category(chr(p))[0] != "C"]
    found = ["", " "]
    while len(found) < count:
        if len(found) % 4 == 0:
            found.append("".join(source.choices(old, k=source.randrange(1, 20))))
            continue
        parts = []
        for _ in range(source.randrange(1, 9)):
            letters = source.choices(source.choice(ALPHABETS), k=source.randrange(0, 9))
            parts += [*letters, source.choice((*SNIPPETS, "", " ", " "))]
        found.append("".join(parts))
    return found


def test_token_ids_equal_those_of_transformers_on_ten_thousand_strings(tmp_path: Path) -> None:
    words = vocabulary()
    merges = [" ".join(pair) for pair in words.ranks]
    reference = transformers.CLIPTokenizer(vocab=dict(words.ids), merges=[*map(_pair, merges)])
    tokenizer = Tokenizer(words, 77)
    texts = [*strings(10_000), "a" * 1_000_000, "ab 12 é! " * 111_112]
    expected = reference(texts, truncation=True, max_length=77)["input_ids"]
    wrong = [
        text[:80]
        for text, ids in zip(texts, expected, strict=True)
        if tokenizer.encode(text) != ids
    ]
    assert wrong == []


def _pair(merge: str) -> tuple[str, str]:
    first, second = merge.split(" ")
    return first, second
