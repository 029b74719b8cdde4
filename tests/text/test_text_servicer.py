import asyncio
from pathlib import Path
from typing import Any

import grpc
import pytest
from google.rpc import error_details_pb2 as details_pb

from fomofeed.text.v1 import text_service_pb2 as pb
from fomofeed.text.v1 import text_service_pb2_grpc as pb_grpc
from services.text.config import TEMPLATES
from services.text.servicer import TextServicer
from services.text.templates import TemplateError, read_templates
from serving.rpc.channels import status_of


@pytest.fixture
async def stub(serving_on: Any) -> Any:
    servicer = TextServicer(read_templates(TEMPLATES))
    server = await serving_on([(pb_grpc.add_TextServiceServicer_to_server, servicer)])
    return pb_grpc.TextServiceStub(server.channel)


async def test_caption_is_the_best_candidate_and_names_its_templates(stub: Any) -> None:
    response = await stub.GenerateCaption(pb.GenerateCaptionRequest(image_tags=["dog", "sea"]))
    assert response.caption == response.candidates[0].text
    assert response.model.model == "templates"
    assert response.model.experimental
    assert len(response.model.artifact_sha256) == 64


async def test_notification_says_what_is_known(stub: Any) -> None:
    request = pb.GenerateNotificationRequest(user_name="Ana", optimal_hour=0, locale="de")
    response = await stub.GenerateNotification(request)
    assert "Ana" in response.notification
    assert "0 Uhr" in response.notification
    assert "100" not in response.notification


@pytest.mark.parametrize(
    ("method", "fields", "field"),
    [
        ("GenerateCaption", {"draft": "x" * 2201}, "draft"),
        ("GenerateCaption", {"draft": "x" * 30, "max_chars": 20}, "draft"),
        ("GenerateCaption", {"draft": "\ufb2c" * 2200}, "draft"),
        ("GenerateCaption", {"image_tags": ["x"] * 65}, "image_tags"),
        ("GenerateCaption", {"hashtags": ["x" * 101]}, "hashtags[0]"),
        ("GenerateCaption", {"max_chars": -1}, "max_chars"),
        ("GenerateCaption", {"tone": "grim"}, "tone"),
        ("GenerateCaption", {"locale": "no such"}, "locale"),
        ("GenerateNotification", {"optimal_hour": 24}, "optimal_hour"),
        ("GenerateNotification", {"engagement_score": float("nan")}, "engagement_score"),
        ("GenerateNotification", {"quality_score": -1}, "quality_score"),
        ("GenerateNotification", {"user_name": "x" * 101}, "user_name"),
        ("GenerateNotification", {"max_chars": 501}, "max_chars"),
    ],
)
async def test_bad_input_is_refused_with_the_field_that_is_wrong(
    stub: Any, method: str, fields: dict[str, Any], field: str
) -> None:
    request = getattr(pb, f"{method}Request")(**fields)
    with pytest.raises(grpc.aio.AioRpcError) as error:
        await getattr(stub, method)(request)
    assert error.value.code() is grpc.StatusCode.INVALID_ARGUMENT
    bad = details_pb.BadRequest()
    assert status_of(error.value).details[0].Unpack(bad)
    assert [violation.field for violation in bad.field_violations] == [field]


async def test_the_same_request_has_the_same_answer(stub: Any) -> None:
    request = pb.GenerateCaptionRequest(image_tags=["dog"], seed=5)
    answers = await asyncio.gather(*(stub.GenerateCaption(request) for _ in range(5)))
    assert len({answer.caption for answer in answers}) == 1


@pytest.mark.parametrize(
    ("content", "fault"),
    [
        ("- 1", "no template file"),
        ("version: 1\nlocales: {}", "no locale en"),
        ("version: 1\nlocales: {en: {decimal: '.'}}", "locale en lacks"),
    ],
)
def test_a_file_that_is_no_template_file_is_refused(
    tmp_path: Path, content: str, fault: str
) -> None:
    path = tmp_path / "templates.yaml"
    path.write_text(content)
    with pytest.raises(TemplateError, match=fault):
        read_templates(path)
