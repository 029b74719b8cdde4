"""A running ranker takes up new versions without a failed call, and none that does not fit."""

import asyncio
import hashlib
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest
import yaml
from prometheus_client import REGISTRY

from cluster.renew import Told, renew
from fomofeed.ranker.v1 import ranker_service_pb2 as pb
from fomofeed.ranker.v1 import ranker_service_pb2_grpc as pb_grpc
from inference import grpc_service_pb2_grpc as inference_grpc
from services.ranker.config import RankerConfig
from services.ranker.scorer import Scorer
from services.ranker.servicer import RankerServicer
from services.ranker.weights import read_profiles
from serving.models.artifacts import publish
from serving.models.build import build
from serving.models.renewable import RenewableModels
from serving.oip.servicer import InferenceServicer
from tests.serving.tiny_models import write_linear

ROOT = Path(__file__).parents[2]
MANIFEST = ROOT / "services/ranker/manifests/feed-ranker.yaml"
COMMITTED = ROOT / "services/ranker/artifacts/feed-ranker.onnx"
POST = pb.ScorePostRequest(quality_score=7.0)


@pytest.fixture
def models(tmp_path: Path) -> Path:
    build(MANIFEST, tmp_path / "models", tmp_path / "packages", {})
    return tmp_path / "models"


@pytest.fixture
async def running(serving_on: Any, models: Path) -> AsyncIterator[Any]:
    profiles = read_profiles(ROOT / "services/ranker/weights.yaml")
    async with (
        Scorer(RankerConfig(model_repository=models)) as scorer,
        RenewableModels([scorer.renewable], models) as renewable,
    ):
        yield await serving_on(
            [
                (pb_grpc.add_RankerServiceServicer_to_server, RankerServicer(scorer, profiles)),
                (
                    inference_grpc.add_GRPCInferenceServiceServicer_to_server,
                    InferenceServicer(renewable),
                ),
            ]
        )


def put(models: Path, folder: Path, version: str, content: bytes, **more: Any) -> None:
    document = yaml.safe_load(MANIFEST.read_text(encoding="utf-8"))
    document |= {"version": version, "sha256": hashlib.sha256(content).hexdigest(), **more}
    path = folder / f"{version}.yaml"
    path.write_text(yaml.safe_dump(document), encoding="utf-8")
    publish(models, path, content)


def is_told(version: str) -> float | None:
    """What the metrics say of a version of the committed file."""
    digest = hashlib.sha256(COMMITTED.read_bytes()).hexdigest()
    labels = {"model": "feed-ranker", "version": version, "artifact_sha256": digest}
    return REGISTRY.get_sample_value("fomofeed_model_info", labels)


async def reload(running: Any) -> list[Told]:
    return [told async for told in renew({"ranker": running.target})]


async def test_calls_go_on_while_a_new_version_is_taken_up(
    running: Any, models: Path, tmp_path: Path
) -> None:
    stub = pb_grpc.RankerServiceStub(running.channel)

    async def ask() -> str:
        return (await stub.ScorePost(POST)).model.version

    assert await ask() == "1"
    put(models, tmp_path, "2", COMMITTED.read_bytes())
    assert await ask() == "1"
    calls = [asyncio.create_task(ask()) for _ in range(100)]
    assert await reload(running) == [Told("ranker", "feed-ranker 2, was 1")]
    assert set(await asyncio.gather(*calls)) <= {"1", "2"}
    assert await ask() == "2"
    assert (is_told("1"), is_told("2")) == (0, 1)
    assert await reload(running) == [Told("ranker", "feed-ranker 2 as before")]


@pytest.mark.parametrize(
    ("kind", "reason"),
    [
        ("another model", "feed-ranker 2 takes {'x': 3} and gives {'y': 3}"),
        ("no model", "feed-ranker.onnx cannot be run"),
        ("other features", "feed-ranker 2 was learned from features 0123456789abcdef, not from"),
        ("features of another number", "of this code: delete its folder, then train again"),
        ("a changed file", "2/feed-ranker.onnx has SHA-256 digest"),
    ],
)
async def test_a_version_that_does_not_fit_is_refused_and_the_old_one_serves_on(
    running: Any, models: Path, tmp_path: Path, kind: str, reason: str
) -> None:
    contents = {
        "another model": write_linear(tmp_path / "linear.onnx").read_bytes(),
        "no model": b"no model",
    }
    contents["features of another number"] = contents["another model"]
    features = {"features": "0123456789abcdef"} if "features" in kind else None
    content = contents.get(kind, COMMITTED.read_bytes())
    put(models, tmp_path, "2", content, preprocessing=features)
    if kind == "a changed file":
        (models / "feed-ranker/2/feed-ranker.onnx").write_bytes(b"flipped")
    (told,) = await reload(running)
    assert not told.is_well
    assert told.text.startswith("feed-ranker 1 serves on: model feed-ranker does not load: ")
    assert reason in told.text
    assert str(models) not in told.text
    answer = await pb_grpc.RankerServiceStub(running.channel).ScorePost(POST)
    assert answer.model.version == "1"


async def test_a_version_is_taken_up_though_its_caller_has_left(
    models: Path, tmp_path: Path
) -> None:
    async with Scorer(RankerConfig(model_repository=models)) as scorer:
        async with RenewableModels([scorer.renewable], models) as renewable:
            put(models, tmp_path, "2", COMMITTED.read_bytes())
            asking = asyncio.create_task(renewable.load("feed-ranker"))
            await asyncio.sleep(0)
            asking.cancel()
        assert scorer.ref.version == "2"
