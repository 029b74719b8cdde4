"""Weights in all their formats, and what is said about weights that cannot be used."""

import io
import json
import os
import pickle
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from services.clip.vit.build import build, built, main, scale_of
from services.clip.vit.checkpoint import Checkpoint, open_checkpoint
from services.clip.vit.errors import CheckpointError
from serving.engines.onnx import OnnxEngine
from serving.models.artifacts import ArtifactError, open_artifact
from tests.clip import tiny_clip

TEXTS = ("a photo of a cat", "dog")
# The first six elements, as transformers 5.23.0 computes them from the same directory.
IMAGE_POINTS = (
    (-0.063753, 0.063488, -0.295850, 0.120733, 0.018322, 0.053694),
    (-0.112898, 0.071525, -0.248571, 0.284366, -0.178755, 0.442594),
)
TEXT_POINTS = (
    (-0.261753, -0.056162, -0.167988, 0.106644, -0.094103, -0.181883),
    (-0.370638, -0.059146, -0.005148, 0.285744, -0.027933, -0.260840),
)


def pictures() -> NDArray[np.uint8]:
    side = tiny_clip.SIDE_PX
    return np.random.default_rng(7).integers(0, 256, (2, side, side, 3), np.uint8)


def embeddings(checkpoint: Checkpoint, repository: Path) -> tuple[NDArray[Any], NDArray[Any]]:
    """Builds a checkpoint's towers and runs them on the pictures and the texts."""
    towers = build(checkpoint, repository)
    ids = checkpoint.tokenizer().batch(TEXTS)
    image = OnnxEngine(towers.image.path).infer({"image": pictures()})
    text = OnnxEngine(towers.text.path).infer({"ids": ids})
    return image["embedding"], text["embedding"]


def check_points(checkpoint: Checkpoint, repository: Path, tolerance: float = 2e-6) -> None:
    image, text = embeddings(checkpoint, repository)
    assert image[:, :6] == pytest.approx(np.array(IMAGE_POINTS), abs=tolerance)
    assert text[:, :6] == pytest.approx(np.array(TEXT_POINTS), abs=tolerance)
    assert np.linalg.norm(image, axis=1) == pytest.approx(1, abs=1e-6)


def test_hugging_face_directory_gives_the_embeddings_of_transformers(tmp_path: Path) -> None:
    checkpoint = open_checkpoint(tiny_clip.write_hugging_face(tmp_path / "weights"))
    check_points(checkpoint, tmp_path)
    assert checkpoint.architecture.name == "clip-vit-32x2-16-64"


def test_one_transposed_weight_gives_other_embeddings(tmp_path: Path) -> None:
    state = tiny_clip.hugging_face_state()
    name = "vision_model.encoder.layers.1.self_attn.v_proj.weight"
    state[name] = np.ascontiguousarray(state[name].T)
    checkpoint = open_checkpoint(tiny_clip.write_hugging_face(tmp_path / "weights", state))
    with pytest.raises(AssertionError):
        check_points(checkpoint, tmp_path)


def test_shards_are_one_checkpoint(tmp_path: Path) -> None:
    folder = tiny_clip.write_hugging_face(tmp_path / "weights")
    (folder / "model.safetensors").unlink()
    names = sorted(state := tiny_clip.hugging_face_state())
    files = {name: f"model-0000{1 + at % 2}-of-00002.safetensors" for at, name in enumerate(names)}
    for file in set(files.values()):
        part = {name: state[name] for name in names if files[name] == file}
        (folder / file).write_bytes(tiny_clip.safetensors(part))
    index = json.dumps({"weight_map": files})
    (folder / "model.safetensors.index.json").write_text(index)
    check_points(open_checkpoint(folder), tmp_path)


@pytest.mark.parametrize("is_named", [True, False], ids=["file", "directory"])
def test_open_clip_checkpoint_is_the_same_model(is_named: bool, tmp_path: Path) -> None:
    path = tiny_clip.write_open_clip(tmp_path / "weights")
    check_points(open_checkpoint(path if is_named else path.parent), tmp_path)


def test_half_precision_weights_are_read_as_they_are(tmp_path: Path) -> None:
    halves = {n: t.astype(np.float16) for n, t in tiny_clip.hugging_face_state().items()}
    checkpoint = open_checkpoint(tiny_clip.write_hugging_face(tmp_path / "weights", halves))
    check_points(checkpoint, tmp_path, tolerance=2e-3)


def test_bfloat16_weights_are_read_as_they_are(tmp_path: Path) -> None:
    bits = {
        name: (tensor.view(np.uint32) >> 16).astype(np.uint16)
        for name, tensor in tiny_clip.hugging_face_state().items()
    }
    checkpoint = open_checkpoint(tiny_clip.write_hugging_face(tmp_path / "weights", bits))
    check_points(checkpoint, tmp_path, tolerance=3e-2)


def test_gelu_of_the_configuration_is_the_gelu_of_the_model(tmp_path: Path) -> None:
    path = tiny_clip.write_open_clip(tmp_path / "weights")
    config = path.with_name("open_clip_config.json")
    config.write_text(config.read_text().replace('"quick_gelu": true', '"quick_gelu": false'))
    checkpoint = open_checkpoint(path)
    image, _ = embeddings(checkpoint, tmp_path)  # itself measured against the float64 reference
    off = np.abs(image[:, :6] - np.array(IMAGE_POINTS)).max()
    assert 1e-4 < off < 0.5


def test_build_is_kept_by_the_digest_of_the_weights(tmp_path: Path) -> None:
    folder = tiny_clip.write_hugging_face(tmp_path / "weights")
    checkpoint = open_checkpoint(folder)
    assert built(checkpoint, tmp_path) is None
    towers = build(checkpoint, tmp_path)
    assert built(open_checkpoint(folder), tmp_path) == towers
    assert scale_of(towers) == pytest.approx(np.exp(3.0))

    (folder / "model.safetensors").write_bytes(
        tiny_clip.safetensors(tiny_clip.hugging_face_state(seed=1))
    )
    assert built(open_checkpoint(folder), tmp_path) is None


def test_build_command_writes_what_it_measured_into_the_card(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    folder = tiny_clip.write_hugging_face(tmp_path / "weights")
    assert main(["--weights", str(folder), "--repository", str(tmp_path)]) == 0
    assert "clip-vit-32x2-16-64-image" in capsys.readouterr().out
    manifest = open_artifact(tmp_path, "clip-vit-32x2-16-64-text").manifest
    assert "to a float64 reference of the same weights" in manifest.metric
    assert 0 < float(manifest.metric.split(": ")[1].split(". ")[0]) < 1e-5
    assert {source.file for source in manifest.sources} >= {"config.json", "model.safetensors"}

    assert main(["--weights", str(tmp_path / "nothing"), "--repository", str(tmp_path)]) == 1
    assert "is neither a directory with config.json nor" in capsys.readouterr().err


def edited(change: Callable[[dict[str, Any]], object]) -> Callable[[Path], None]:
    def damage(folder: Path) -> None:
        path = folder / "config.json"
        document = json.loads(path.read_text())
        change(document)
        path.write_text(json.dumps(document))

    return damage


def reweighted(change: Callable[[dict[str, Any]], object]) -> Callable[[Path], None]:
    def damage(folder: Path) -> None:
        state = tiny_clip.hugging_face_state()
        change(state)
        (folder / "model.safetensors").write_bytes(tiny_clip.safetensors(state))

    return damage


def rewritten(change: Callable[[bytes], bytes]) -> Callable[[Path], None]:
    def damage(folder: Path) -> None:
        path = folder / "model.safetensors"
        path.write_bytes(change(path.read_bytes()))

    return damage


def replaced(name: str, content: str) -> Callable[[Path], None]:
    def damage(folder: Path) -> None:
        (folder / name).write_text(content)

    return damage


def header_of(entry: dict[str, Any]) -> bytes:
    text = json.dumps({"a": entry, "b": {**entry, "shape": [1]}}).encode()
    return len(text).to_bytes(8, "little") + text + bytes(64)


PROJECTION = "visual_projection.weight"
DAMAGES: dict[str, tuple[Callable[[Path], None], str]] = {
    "no weights": (lambda f: (f / "model.safetensors").unlink(), "has neither model.safetensors"),
    "another model": (edited(lambda c: c.update(model_type="siglip")), "model_type 'siglip'"),
    "another activation": (
        edited(lambda c: c["text_config"].update(hidden_act="relu")),
        "'relu', expected quick_gelu or gelu",
    ),
    "heads": (
        edited(lambda c: c["text_config"].update(num_attention_heads=3)),
        "text_model has width 16, 3 layers, 3 heads",
    ),
    "patches": (
        edited(lambda c: c["vision_config"].update(patch_size=15)),
        "64 px in patches of 15 px",
    ),
    "too wide": (
        edited(lambda c: c["vision_config"].update(hidden_size=1280)),
        "width 1280, at most 1024",
    ),
    "a number that is none": (
        edited(lambda c: c["vision_config"].update(hidden_size="x")),
        r"config.json is unusable",
    ),
    "config that is no JSON": (
        replaced("config.json", "{"),
        "config.json cannot be read",
    ),
    "missing tensor": (reweighted(lambda s: s.pop(PROJECTION)), f"{PROJECTION} is missing"),
    "unknown tensor": (
        reweighted(lambda s: s.update({"lora.a": np.zeros(1, np.float32)})),
        "tensor lora.a is none of clip-vit",
    ),
    "misshapen tensor": (
        reweighted(lambda s: s.update({PROJECTION: s[PROJECTION].T})),
        rf"{PROJECTION} is float32 \[32, 24\], expected \[24, 32\]",
    ),
    "not finite": (
        reweighted(lambda s: s.update({PROJECTION: s[PROJECTION] * np.float32(np.nan)})),
        "values that are not finite",
    ),
    "truncated": (rewritten(lambda raw: raw[:-100]), "ends after"),
    "empty": (rewritten(lambda raw: b""), "cannot be read"),
    "text": (rewritten(lambda raw: b"version https://git-lfs.example/spec/v1\n"), "no safetensors"),
    "huge header": (rewritten(lambda raw: b"\xff" * 16), "no safetensors file: its header is"),
    "header of garbage": (
        rewritten(lambda raw: raw[:8] + b"\xff" * 64 + raw[72:]),
        "damaged header",
    ),
    "wrong size": (
        rewritten(lambda _: header_of({"dtype": "F32", "shape": [3], "data_offsets": [0, 8]})),
        r"tensor a of shape \[3\] has 8 B",
    ),
    "shared bytes": (
        rewritten(lambda _: header_of({"dtype": "F32", "shape": [1], "data_offsets": [0, 4]})),
        "two tensors share bytes from 0",
    ),
    "unknown dtype": (
        rewritten(lambda _: header_of({"dtype": "Q4", "shape": [1], "data_offsets": [0, 4]})),
        "tensor a is Q4",
    ),
    "no vocabulary": (lambda f: (f / "merges.txt").unlink(), "no vocabulary beside the weights"),
    "foreign vocabulary": (
        edited(lambda c: c["text_config"].update(eos_token_id=5)),
        "the vocabulary reaches 521 and ends with 521; the weights have 522 tokens and end with 5",
    ),
    "another crop": (
        replaced("preprocessor_config.json", json.dumps({"crop_size": 32})),
        "crop_size is 32, the model takes 64 px",
    ),
    "another filter": (
        replaced("preprocessor_config.json", json.dumps({"resample": 2})),
        "resample is 2, expected 3",
    ),
}  # fmt: skip


@pytest.mark.parametrize("kind", DAMAGES)
def test_unusable_directory_is_refused_with_its_reason(kind: str, tmp_path: Path) -> None:
    damage, message = DAMAGES[kind]
    folder = tiny_clip.write_hugging_face(tmp_path / "weights")
    damage(folder)
    with pytest.raises(CheckpointError, match=message):
        checkpoint = open_checkpoint(folder)
        checkpoint.weights()
        checkpoint.tokenizer()


def test_open_clip_file_needs_to_say_which_gelu(tmp_path: Path) -> None:
    path = tiny_clip.write_open_clip(tmp_path)
    path.with_name("open_clip_config.json").unlink()
    with pytest.raises(CheckpointError, match="it must say at least"):
        open_checkpoint(path)


def test_open_clip_variant_with_other_arithmetic_is_refused(tmp_path: Path) -> None:
    path = tiny_clip.write_open_clip(tmp_path)
    config = {"model_cfg": {"quick_gelu": True, "text_cfg": {"pool_type": "last"}}}
    path.with_name("open_clip_config.json").write_text(json.dumps(config))
    with pytest.raises(CheckpointError, match="pool_type 'last' is not served here"):
        open_checkpoint(path)


def test_open_clip_model_without_vit_towers_is_refused(tmp_path: Path) -> None:
    path = tiny_clip.write_open_clip(tmp_path)
    state = {"visual.layer1.0.conv1.weight": np.zeros((1, 1), np.float32)}
    path.write_bytes(tiny_clip.safetensors(state))
    with pytest.raises(CheckpointError, match="belongs to no CLIP with ViT towers"):
        open_checkpoint(path)


class Attack:
    def __reduce__(self) -> tuple[Any, ...]:
        return os.system, ("true",)


def torch_zip(**files: bytes) -> bytes:
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w") as archive:
        for name, content in files.items():
            archive.writestr(f"archive/{name}.pkl", content)
    return buffer.getvalue()


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (torch_zip(data=pickle.dumps({"a": Attack()})), "asks for posix.system, which is not"),
        (torch_zip(data=b"", constants=b""), "a TorchScript archive; save its state_dict"),
        (torch_zip(data=b"\x80"), "no state dict that Torch saved"),
        (torch_zip(data=pickle.dumps([1])), "no state dict that Torch saved"),
        (b"PK garbage", "no state dict that Torch saved"),
    ],
    ids=["code", "TorchScript", "damaged pickle", "list", "no zip"],
)
def test_hostile_torch_file_is_refused(content: bytes, message: str, tmp_path: Path) -> None:
    path = tiny_clip.write_open_clip(tmp_path).with_name("weights.pt")
    path.write_bytes(content)
    with pytest.raises(CheckpointError, match=message):
        open_checkpoint(path)


def test_altered_tower_is_not_served(tmp_path: Path) -> None:
    checkpoint = open_checkpoint(tiny_clip.write_hugging_face(tmp_path / "weights"))
    with build(checkpoint, tmp_path).image.path.open("r+b") as file:
        file.seek(1000)
        file.write(b"!")
    with pytest.raises(ArtifactError, match="has SHA-256 digest"):
        built(checkpoint, tmp_path)
