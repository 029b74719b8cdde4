import asyncio
import gc
import hashlib
import io
import struct
import zlib
from collections.abc import Callable, Coroutine
from pathlib import Path
from typing import Any

import grpc
import numpy as np
import pytest
from google.rpc import error_details_pb2
from PIL import Image

from fomofeed.clip.v1 import clip_service_pb2 as pb
from fomofeed.clip.v1 import clip_service_pb2_grpc as pb_grpc
from fomofeed.type.v1.type_pb2 import Ledger, ModelRef
from services.clip.analyzer import Analyzer
from services.clip.config import ClipConfig
from services.clip.fingerprint import fingerprint
from serving.models.artifacts import DEFAULT_REPOSITORY, ArtifactError, open_artifact, publish
from serving.request import LEDGER_KEY
from serving.rpc.channels import status_of
from tests.clip.conftest import ReadPhoto

Stub = pb_grpc.ClipServiceStub


def encoded(image: Image.Image, kind: str, **options: Any) -> bytes:
    buffer = io.BytesIO()
    image.save(buffer, kind, **options)
    return buffer.getvalue()


def bomb() -> bytes:
    """A PNG header that claims 30,000 x 30,000 pixels."""
    header = b"IHDR" + struct.pack(">IIBBBBB", 30_000, 30_000, 8, 2, 0, 0, 0)
    checked = struct.pack(">I", 13) + header + struct.pack(">I", zlib.crc32(header))
    return b"\x89PNG\r\n\x1a\n" + checked + struct.pack(">I", 0) + b"IDAT" + b"\0\0\0\0"


async def refusal(call: Coroutine[Any, Any, Any]) -> grpc.aio.AioRpcError:
    with pytest.raises(grpc.aio.AioRpcError) as error:
        await call
    return error.value


async def test_analysis_says_who_answered_and_what_it_looked_at(
    clip: Stub, photo: ReadPhoto
) -> None:
    content = photo("coffee.png")
    answer = await clip.AnalyzeImage(pb.AnalyzeImageRequest(image=content, with_embedding=True))

    assert 8 < answer.quality_score <= 10
    assert {aspect.aspect for aspect in answer.aspects} == {
        "sharpness", "exposure", "contrast", "noise", "compression", "composition"
    }  # fmt: skip
    assert sum(colour.share for colour in answer.palette) == pytest.approx(1)
    assert answer.embedding.space == "efficientnet-lite0"
    assert np.linalg.norm(answer.embedding.values) == pytest.approx(1, abs=1e-5)
    assert answer.content_sha256 == hashlib.sha256(content).hexdigest()
    assert (answer.model.model, answer.model.experimental) == ("efficientnet-lite0", False)
    assert answer.quality_model.experimental


async def test_tags_are_limited_and_embedding_comes_only_when_asked(
    clip: Stub, photo: ReadPhoto
) -> None:
    request = pb.AnalyzeImageRequest(image=photo("coffee.png"), max_tags=2)
    answer = await clip.AnalyzeImage(request)
    assert [tag.label for tag in answer.tags] == ["coffee", "espresso"]
    assert not answer.HasField("embedding")


async def test_batch_keeps_order_and_a_bad_image_fails_alone(clip: Stub, photo: ReadPhoto) -> None:
    images = [photo("coffee.png"), b"", photo("flower.jpg"), b"hello", photo("chelsea.png")]
    requests = [pb.AnalyzeImageRequest(image=image) for image in images]

    answer = await clip.BatchAnalyzeImages(pb.BatchAnalyzeImagesRequest(requests=requests))

    firsts = [r.response.tags[0].label if r.HasField("response") else "" for r in answer.results]
    assert firsts == ["coffee", "", "flower", "", "cat"]
    assert answer.results[1].error.code == grpc.StatusCode.INVALID_ARGUMENT.value[0]
    assert answer.results[1].error.message == "requests[1].image is 0 B, expected 1 B to 8 MiB"
    assert answer.results[3].error.message.startswith("requests[3].image is 5 B of an unknown")


async def test_many_at_once_are_answered_as_each_alone(clip: Stub, photo: ReadPhoto) -> None:
    whole = Image.open(io.BytesIO(photo("china.jpg")))
    crops = [
        encoded(whole.crop((x, 0, x + 300, 400)), "JPEG", quality=95) for x in range(0, 320, 10)
    ]
    requests = [pb.AnalyzeImageRequest(image=crop, with_embedding=True) for crop in crops]

    together = await asyncio.gather(*(clip.AnalyzeImage(request) for request in requests))

    for request, answer in zip(requests, together, strict=True):
        alone = await clip.AnalyzeImage(request)
        assert answer.quality_score == pytest.approx(alone.quality_score, abs=1e-9)
        assert answer.tags == alone.tags
        assert answer.embedding.values == pytest.approx(alone.embedding.values, abs=1e-5)


async def test_embeddings_of_one_motif_lie_closer_than_those_of_others(
    clip: Stub, photo: ReadPhoto
) -> None:
    names = ("motorcycle_left.png", "motorcycle_right.png", "coffee.png", "flower.jpg")
    inputs = [pb.EmbedInput(image=photo(name)) for name in names]
    answer = await clip.Embed(pb.EmbedRequest(inputs=inputs))
    left, right, *others = (np.array(list(point.values)) for point in answer.embeddings)
    assert left @ right > max(left @ other for other in others) + 0.3


GOLDEN: dict[str, tuple[Callable[[Image.Image], bytes], str]] = {
    "empty": (lambda _: b"", "image is 0 B, expected 1 B to 8 MiB"),
    "too large": (lambda _: b"x" * (9 << 20), "image is 9 MiB, expected 1 B to 8 MiB"),
    "bomb": (lambda _: bomb(), "image is 30000 x 30000 px, at most 4096 px a side"),
    "text named .jpg": (
        lambda _: b"not a photo\n",
        "image is 12 B of an unknown format, expected JPEG, PNG, WebP or GIF",
    ),
    "truncated JPEG": (
        lambda image: encoded(image, "JPEG")[:1000],
        "image is a damaged JPEG of 1000 B, expected a complete file",
    ),
    "too small": (
        lambda image: encoded(image.resize((15, 90)), "PNG"),
        "image is 15 x 90 px, at least 16 px a side",
    ),
}


@pytest.mark.parametrize("kind", GOLDEN)
async def test_bad_image_gets_its_golden_error(kind: str, clip: Stub, noise: Image.Image) -> None:
    make, message = GOLDEN[kind]
    error = await refusal(clip.AnalyzeImage(pb.AnalyzeImageRequest(image=make(noise))))
    assert (error.code(), error.details()) == (grpc.StatusCode.INVALID_ARGUMENT, message)
    detail = error_details_pb2.BadRequest()
    assert status_of(error).details[0].Unpack(detail)
    assert [violation.field for violation in detail.field_violations] == ["image"]


@pytest.mark.parametrize(
    ("method", "request_", "code", "message"),
    [
        (
            "AnalyzeImage",
            pb.AnalyzeImageRequest(image=b"x", max_tags=-1),
            grpc.StatusCode.INVALID_ARGUMENT,
            "max_tags is -1, 0 to 100",
        ),
        (
            "BatchAnalyzeImages",
            pb.BatchAnalyzeImagesRequest(),
            grpc.StatusCode.INVALID_ARGUMENT,
            "requests is 0 items, expected 1 to 32",
        ),
        (
            "BatchAnalyzeImages",
            pb.BatchAnalyzeImagesRequest(requests=[pb.AnalyzeImageRequest()] * 33),
            grpc.StatusCode.INVALID_ARGUMENT,
            "requests is 33 items, expected 1 to 32",
        ),
        (
            "ClassifyImage",
            pb.ClassifyImageRequest(image=b"x", labels=["a", "b"]),
            grpc.StatusCode.UNIMPLEMENTED,
            "classification by the caller's labels is not available here: "
            "it needs a model with a text tower",
        ),
        (
            "Embed",
            pb.EmbedRequest(inputs=[pb.EmbedInput(text="a cat"), pb.EmbedInput()]),
            grpc.StatusCode.INVALID_ARGUMENT,
            "inputs[0].text is a text, expected an image: no text tower is loaded; "
            "inputs[1] is empty, expected text or image",
        ),
        (
            "Embed",
            pb.EmbedRequest(inputs=[pb.EmbedInput(image=b"x")], space="clip-vit-b-32"),
            grpc.StatusCode.NOT_FOUND,
            "no embedding space clip-vit-b-32; known: efficientnet-lite0",
        ),
    ],
)
async def test_bad_request_gets_its_golden_error(
    method: str, request_: Any, code: grpc.StatusCode, message: str, clip: Stub
) -> None:
    error = await refusal(getattr(clip, method)(request_))
    assert (error.code(), error.details()) == (code, message)


async def test_server_is_no_worse_off_after_bad_images(
    clip: Stub, photo: ReadPhoto, noise: Image.Image
) -> None:
    good = pb.AnalyzeImageRequest(image=photo("coffee.png"))
    before_answer = await clip.AnalyzeImage(good)
    bad = [make(noise) for make, _ in GOLDEN.values()]
    for image in bad:
        await refusal(clip.AnalyzeImage(pb.AnalyzeImageRequest(image=image)))
    before = resident_mib()
    for image in bad * 10:
        await refusal(clip.AnalyzeImage(pb.AnalyzeImageRequest(image=image)))
    assert resident_mib() - before < 64  # MiB; one decoded bomb is 2,700
    assert await clip.AnalyzeImage(good) == before_answer


async def test_second_call_with_the_same_image_is_answered_from_memory(
    clip: Stub, photo: ReadPhoto
) -> None:
    request = pb.AnalyzeImageRequest(image=photo("coffee.png"), with_embedding=True)
    first, again = clip.AnalyzeImage(request), clip.AnalyzeImage(request)
    assert await first == await again
    third = clip.AnalyzeImage(request)
    assert (await third).content_sha256 == hashlib.sha256(request.image).hexdigest()
    ledger = ledger_of(dict(await third.trailing_metadata()))
    assert ledger.cached
    assert ledger.compute_us == 0
    assert ledger.model == (await first).model
    fewer = await clip.AnalyzeImage(pb.AnalyzeImageRequest(image=request.image, max_tags=1))
    assert len(fewer.tags) == 1


async def test_batch_counts_as_remembered_only_as_a_whole(clip: Stub, photo: ReadPhoto) -> None:
    async def is_cached(*names: str) -> bool:
        requests = [pb.AnalyzeImageRequest(image=photo(name)) for name in names]
        call = clip.BatchAnalyzeImages(pb.BatchAnalyzeImagesRequest(requests=requests))
        await call
        return ledger_of(dict(await call.trailing_metadata())).cached

    assert not await is_cached("coffee.png")
    assert not await is_cached("coffee.png", "flower.jpg")
    assert await is_cached("coffee.png", "flower.jpg")


async def test_settings_and_models_make_another_fingerprint(tmp_path: Path) -> None:
    words = tmp_path / "tags.yaml"
    words.write_text("one")
    refs = [ModelRef(model="m", artifact_sha256="a" * 64)]
    first = fingerprint(ClipConfig(tags=words), refs)
    assert first == fingerprint(ClipConfig(tags=words), refs)
    assert first != fingerprint(ClipConfig(tags=words, detect="always"), refs)
    assert first != fingerprint(ClipConfig(tags=words), [ModelRef(model="m")])
    words.write_text("two")
    assert first != fingerprint(ClipConfig(tags=words), refs)


def ledger_of(trailers: dict[str, Any]) -> Ledger:
    return Ledger.FromString(trailers[LEDGER_KEY])


async def test_altered_weights_refuse_to_load(tmp_path: Path) -> None:
    artifact = open_artifact(DEFAULT_REPOSITORY, "efficientnet-lite0")
    manifest = artifact.path.with_name("manifest.yaml")
    with publish(tmp_path, manifest, artifact.path.read_bytes()).path.open("r+b") as file:
        file.seek(1000)
        file.write(b"!")

    with pytest.raises(ArtifactError, match="has SHA-256 digest"):
        async with Analyzer.open(ClipConfig(model_repository=tmp_path)):
            pass


def resident_mib() -> float:
    gc.collect()
    fields = Path("/proc/self/statm").read_text().split()
    return int(fields[1]) * 4096 / 2**20
