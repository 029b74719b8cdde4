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


async def test_a_batch_answers_each_as_if_it_were_alone_and_in_order(stub: Any) -> None:
    captions = [pb.GenerateCaptionRequest(image_tags=[tag]) for tag in ("dog", "sea", "sun")]
    batch = pb.BatchGenerateCaptionsRequest(requests=captions)
    answers = await stub.BatchGenerateCaptions(batch)
    alone = [await stub.GenerateCaption(caption) for caption in captions]
    assert [result.response for result in answers.results] == alone
    notes = [pb.GenerateNotificationRequest(optimal_hour=hour) for hour in (7, 19)]
    told = await stub.BatchGenerateNotifications(
        pb.BatchGenerateNotificationsRequest(requests=notes)
    )
    alone = [await stub.GenerateNotification(note) for note in notes]
    assert [result.response for result in told.results] == alone


async def test_a_bad_request_of_a_batch_fails_alone_as_its_own_method_would(stub: Any) -> None:
    bad = pb.GenerateNotificationRequest(optimal_hour=24)
    requests = [pb.GenerateNotificationRequest(optimal_hour=1), bad]
    batch = pb.BatchGenerateNotificationsRequest(requests=requests)
    good, wrong = (await stub.BatchGenerateNotifications(batch)).results
    assert good.response.notification
    with pytest.raises(grpc.aio.AioRpcError) as error:
        await stub.GenerateNotification(bad)
    assert wrong.error == status_of(error.value)
    bad_draft = pb.GenerateCaptionRequest(draft="x" * 2201)
    captions = await stub.BatchGenerateCaptions(
        pb.BatchGenerateCaptionsRequest(requests=[bad_draft, pb.GenerateCaptionRequest()])
    )
    assert [one.WhichOneof("outcome") for one in captions.results] == ["error", "response"]


@pytest.mark.parametrize("count", [0, 101])
@pytest.mark.parametrize("method", ["BatchGenerateCaptions", "BatchGenerateNotifications"])
async def test_a_batch_holds_1_to_100_requests(stub: Any, method: str, count: int) -> None:
    single = pb.GenerateCaptionRequest if "Captions" in method else pb.GenerateNotificationRequest
    with pytest.raises(grpc.aio.AioRpcError, match=f"requests is {count} requests, 1 to 100"):
        await getattr(stub, method)(getattr(pb, f"{method}Request")(requests=[single()] * count))


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
