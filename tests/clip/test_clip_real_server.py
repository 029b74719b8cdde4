"""A server with an operator's CLIP weights: tiny random ones, so that the answers mean nothing."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

import grpc
import numpy as np
import pytest

from fomofeed.clip.v1 import clip_service_pb2 as pb
from fomofeed.clip.v1 import clip_service_pb2_grpc as pb_grpc
from inference import grpc_service_pb2 as oip_pb
from inference import grpc_service_pb2_grpc as oip_grpc
from services.clip.analyzer import Analyzer
from services.clip.config import ClipConfig
from services.clip.servicer import SERVICE_NAME, ClipServicer
from services.clip.vit.build import build
from services.clip.vit.checkpoint import open_checkpoint
from serving.models.artifacts import DEFAULT_REPOSITORY, ArtifactError, open_artifact, publish
from serving.models.served import FixedModels
from serving.oip.mounting import mount
from serving.rpc.channels import open_channel
from serving.rpc.lifecycle import Phase
from serving.rpc.server import Server, ServerConfig
from tests.clip import tiny_clip
from tests.clip.conftest import ReadPhoto

Stub = pb_grpc.ClipServiceStub
VOCABULARY = """
gate: 0.0
templates: ["a photo of a {}."]
tags:
  - {tag: cat, also: [pet]}
  - {tag: dog, also: [pet]}
  - {tag: night, prompts: ["a photo at night.", "a dark photo."]}
other: ["a photo."]
"""


@pytest.fixture(scope="session")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Weights and a repository of their own, with what does not come from the weights."""
    folder = tmp_path_factory.mktemp("clip")
    for manifest in DEFAULT_REPOSITORY.glob("*/*/manifest.yaml"):
        if manifest.parents[1].name in ("blazeface", "centernet"):
            artifact = open_artifact(DEFAULT_REPOSITORY, manifest.parents[1].name)
            publish(folder / "models", manifest, artifact.path.read_bytes())
    build(open_checkpoint(tiny_clip.write_hugging_face(folder / "weights")), folder / "models")
    return folder


@pytest.fixture
def config(folder: Path, tmp_path: Path) -> ClipConfig:
    vocabulary = tmp_path / "words.yaml"
    vocabulary.write_text(VOCABULARY, encoding="utf-8")
    return ClipConfig(
        model_repository=folder / "models", weights=folder / "weights", vocabulary=vocabulary
    )


@asynccontextmanager
async def serving(config: ClipConfig) -> AsyncIterator[grpc.aio.Channel]:
    """Runs the service with its tensor models, as its main program does."""
    settings = ServerConfig(metrics_port=None, lame_duck_s=0.0)
    stop = asyncio.Event()
    async with (
        Server(settings, "clip", [SERVICE_NAME]) as server,
        Analyzer.open(config) as analyzer,
    ):
        server.mount(pb_grpc.add_ClipServiceServicer_to_server, ClipServicer(analyzer))
        await mount(server, FixedModels(analyzer.sight.models))
        running = asyncio.create_task(server.serve(stop))
        await server.entered(Phase.SERVING)
        async with open_channel(f"127.0.0.1:{server.port}", health_service=None) as channel:
            yield channel
        stop.set()
        await running


@pytest.fixture
async def channel(config: ClipConfig) -> AsyncIterator[grpc.aio.Channel]:
    async with serving(config) as channel:
        yield channel


@pytest.fixture
def clip(channel: grpc.aio.Channel) -> Stub:
    return pb_grpc.ClipServiceStub(channel)


def space_of(config: ClipConfig) -> str:
    assert config.weights is not None
    return f"clip-vit-32x2-16-64-{open_checkpoint(config.weights).digest[:8]}"


async def test_texts_and_images_share_a_space_named_after_the_weights(
    clip: Stub, config: ClipConfig, photo: ReadPhoto
) -> None:
    inputs = [
        pb.EmbedInput(text="a cat"),
        pb.EmbedInput(image=photo("chelsea.png")),
        pb.EmbedInput(text="dog 🐕"),
        pb.EmbedInput(image=photo("coffee.png")),
    ]
    answer = await clip.Embed(pb.EmbedRequest(inputs=inputs, space=space_of(config)))

    points = np.array([list(point.values) for point in answer.embeddings])
    assert points.shape == (4, tiny_clip.EMBEDDING)
    assert np.linalg.norm(points, axis=1) == pytest.approx(1, abs=1e-5)
    assert {point.space for point in answer.embeddings} == {space_of(config)}
    assert answer.model.artifact_sha256 == open_checkpoint(config.weights or Path()).digest
    for index, item in enumerate(inputs):  # alone, in the same place
        (alone,) = (await clip.Embed(pb.EmbedRequest(inputs=[item]))).embeddings
        assert alone.values == pytest.approx(points[index], abs=1e-5)


async def test_classification_is_the_softmax_of_the_cosines(clip: Stub, photo: ReadPhoto) -> None:
    labels, templates = ["cat", "dog", "cup of tea"], ["a photo of a {}.", "{} at night"]
    sentences = [template.replace("{}", label) for label in labels for template in templates]
    inputs = [pb.EmbedInput(text=sentence) for sentence in sentences]
    inputs.append(pb.EmbedInput(image=photo("chelsea.png")))
    embedded = await clip.Embed(pb.EmbedRequest(inputs=inputs))
    *texts, image = (np.array(list(point.values)) for point in embedded.embeddings)
    means = [np.mean(texts[at : at + 2], axis=0) for at in range(0, 6, 2)]
    cosines = np.array([mean @ image / np.linalg.norm(mean) for mean in means])
    shares = np.exp(np.exp(3.0) * cosines)

    request = pb.ClassifyImageRequest(
        image=photo("chelsea.png"), labels=labels, templates=templates
    )
    answer = await clip.ClassifyImage(request)

    found = {tag.label: tag.probability for tag in answer.labels}
    assert found == pytest.approx(dict(zip(labels, shares / shares.sum(), strict=True)), abs=1e-4)
    assert sum(found.values()) == pytest.approx(1)
    assert list(found.values()) == sorted(found.values(), reverse=True)
    assert {tag.source for tag in answer.labels} == {"clip"}
    assert answer.model.model == "clip-vit-32x2-16-64"


async def test_a_thousand_labels_are_read_once_and_remembered(clip: Stub, photo: ReadPhoto) -> None:
    labels = [f"thing number {at}" for at in range(1000)]
    request = pb.ClassifyImageRequest(image=photo("coffee.png"), labels=labels)
    first, again = await clip.ClassifyImage(request), await clip.ClassifyImage(request)
    assert len(first.labels) == 1000
    assert first == again


async def test_analysis_speaks_the_words_of_the_vocabulary_file(
    clip: Stub, config: ClipConfig, photo: ReadPhoto
) -> None:
    request = pb.AnalyzeImageRequest(image=photo("chelsea.png"), with_embedding=True)
    answer = await clip.AnalyzeImage(request)

    said = {tag.label: tag.probability for tag in answer.tags if tag.source == "clip"}
    assert set(said) == {"cat", "dog", "night", "pet"}
    assert said["pet"] == pytest.approx(said["cat"] + said["dog"])
    assert said["cat"] + said["dog"] + said["night"] < 1  # `other` has its share
    assert answer.embedding.space == space_of(config)
    assert answer.model == answer.quality_model
    assert 0 <= answer.quality_score <= 10
    aspects = {aspect.aspect: aspect.score for aspect in answer.aspects}
    assert {"sharpness", "noise", "beauty", "brightness", "colourfulness"} <= set(aspects)
    assert "aesthetic" not in aspects


async def test_aesthetic_head_is_an_aspect_of_its_own(
    config: ClipConfig, photo: ReadPhoto, tmp_path: Path
) -> None:
    weight = np.linspace(-1, 1, tiny_clip.EMBEDDING, dtype=np.float32)
    head = {"weight": weight[None], "bias": np.array([5], np.float32)}
    path = tmp_path / "head.safetensors"
    path.write_bytes(tiny_clip.safetensors(head))
    async with serving(replace(config, aesthetic_head=path)) as channel:
        request = pb.AnalyzeImageRequest(image=photo("flower.jpg"), with_embedding=True)
        answer = await pb_grpc.ClipServiceStub(channel).AnalyzeImage(request)
    (score,) = (aspect.score for aspect in answer.aspects if aspect.aspect == "aesthetic")
    assert score == pytest.approx(5 + weight @ np.array(list(answer.embedding.values)), abs=1e-4)


async def test_towers_are_tensor_models_too(
    channel: grpc.aio.Channel, clip: Stub, config: ClipConfig
) -> None:
    stub = oip_grpc.GRPCInferenceServiceStub(channel)
    name = "clip-vit-32x2-16-64-text"
    assert (await stub.ModelReady(oip_pb.ModelReadyRequest(name=name))).ready
    ids = np.array([[520, 320, 513, 521]], np.int64)
    tensor = oip_pb.ModelInferRequest.InferInputTensor(name="ids", datatype="INT64", shape=[1, 4])
    request = oip_pb.ModelInferRequest(
        model_name=name, inputs=[tensor], raw_input_contents=[ids.tobytes()]
    )
    answer = await stub.ModelInfer(request)

    (found,) = (np.frombuffer(raw, np.float32) for raw in answer.raw_output_contents)
    embedded = await clip.Embed(pb.EmbedRequest(inputs=[pb.EmbedInput(text="a cat")]))
    assert found == pytest.approx(list(embedded.embeddings[0].values), abs=1e-5)


@pytest.mark.parametrize(
    ("method", "request_", "message"),
    [
        (
            "ClassifyImage",
            pb.ClassifyImageRequest(image=b"x", labels=["a"], templates=["no place"]),
            "labels is 1 items, expected 2 to 1000; "
            "templates[0] is no place, expected one {} for the label",
        ),
        (
            "ClassifyImage",
            pb.ClassifyImageRequest(image=b"x", labels=["a", "", "a", "b" * 201]),
            "labels[1] is 0 code points, expected 1 to 200; "
            "labels[3] is 201 code points, expected 1 to 200; labels[2] is a, same as labels[0]",
        ),
        (
            "ClassifyImage",
            pb.ClassifyImageRequest(
                image=b"x", labels=[str(at) for at in range(1000)], templates=["{}"] * 3
            ),
            "labels is 1000 x 3 sentences, at most 2000 with the templates",
        ),
        (
            "ClassifyImage",
            pb.ClassifyImageRequest(image=b"hello", labels=["a", "b"]),
            "image is 5 B of an unknown format, expected JPEG, PNG, WebP or GIF",
        ),
        (
            "Embed",
            pb.EmbedRequest(inputs=[pb.EmbedInput(text=""), pb.EmbedInput(text="a" * 2201)]),
            "inputs[0].text is 0 code points, expected 1 to 2200; "
            "inputs[1].text is 2201 code points, expected 1 to 2200",
        ),
    ],
)
async def test_bad_request_gets_its_golden_error(
    method: str, request_: Any, message: str, clip: Stub
) -> None:
    with pytest.raises(grpc.aio.AioRpcError) as error:
        await getattr(clip, method)(request_)
    assert error.value.code() == grpc.StatusCode.INVALID_ARGUMENT
    assert error.value.details() == message


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("gate: 0.1\ntags: []", "'templates'"),
        ("gate: 0.1\ntemplates: [a cat]\ntags: [{tag: cat}]", "template 'a cat' has no {}"),
        ("gate: 0.1\ntemplates: ['{}']\ntags: [{tag: a}, {tag: a}]", "tag 'a' stands there twice"),
        ("gate: 0.1\ntemplates: ['{}']\ntags: [{tag: a, alos: [b]}]", "unknown key 'alos'"),
        ("gate: 0.1\ntemplates: []\ntags: [{tag: a}]", "tag 'a' has neither templates"),
        ("- 1", "words.yaml is unusable"),
    ],
)
async def test_unusable_vocabulary_stops_the_start(
    content: str, message: str, config: ClipConfig
) -> None:
    assert config.vocabulary is not None
    config.vocabulary.write_text(content, encoding="utf-8")
    with pytest.raises(ArtifactError, match=message):
        async with Analyzer.open(config):
            pass


async def test_shipped_vocabulary_is_usable(config: ClipConfig) -> None:
    async with Analyzer.open(replace(config, vocabulary=None)) as analyzer:
        assert analyzer.sight.reads_text


async def test_weights_that_nobody_has_built_are_built_at_the_start(
    config: ClipConfig, tmp_path: Path
) -> None:
    fresh = tiny_clip.write_hugging_face(tmp_path / "fresh", tiny_clip.hugging_face_state(seed=2))
    async with Analyzer.open(replace(config, weights=fresh)) as analyzer:
        assert analyzer.sight.ref.artifact_sha256 == open_checkpoint(fresh).digest
        assert len(await analyzer.read(["a cat"])) == 1


def test_settings_of_the_weights_need_the_weights() -> None:
    with pytest.raises(ValueError, match="exact_pixels needs weights"):
        ClipConfig(exact_pixels=True)


@pytest.mark.parametrize(("rows", "captured"), [(1, (1,)), (6, (1, 2, 4, 6)), (8, (1, 2, 4, 8))])
def test_batches_on_a_gpu_are_filled_up_to_sizes_that_are_captured(
    rows: int, captured: tuple[int, ...]
) -> None:
    weights = Path("weights")
    on_gpu = ClipConfig(weights=weights, engine="torch", device="cuda", max_batch_rows=rows)
    assert on_gpu.captured_rows == captured
    assert replace(on_gpu, device="cpu").captured_rows == ()
