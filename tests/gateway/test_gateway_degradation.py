import asyncio

import grpc
import pytest
from google.protobuf.field_mask_pb2 import FieldMask
from google.rpc import error_details_pb2 as details_pb

from fomofeed.clip.v1 import clip_service_pb2 as clip_pb
from fomofeed.gateway.v1 import orchestrator_service_pb2 as pb
from fomofeed.moderation.v1 import moderation_service_pb2 as moderation_pb
from fomofeed.profile.v1 import profile_service_pb2 as profile_pb
from fomofeed.ranker.v1 import ranker_service_pb2 as ranker_pb
from fomofeed.timing.v1 import timing_service_pb2 as timing_pb
from serving.errors import EngineError, InvalidRequestError, NotFoundError, Violation
from serving.rpc.channels import status_of
from tests.gateway.conftest import Analyze
from tests.gateway.fake_nodes import MODEL

SERVICES = {
    "profile": "fomofeed.profile.v1.ProfileService",
    "clip": "fomofeed.clip.v1.ClipService",
    "timing": "fomofeed.timing.v1.TimingService",
    "ranker": "fomofeed.ranker.v1.RankerService",
    "text": "fomofeed.text.v1.TextService",
    "moderation": "fomofeed.moderation.v1.ModerationService",
}
SUBSTITUTES = {
    "profile": "population_prior",
    "clip": "author_tags",
    "timing": "population_hours",
    "ranker": "linear_score",
    "caption": "author_draft",
    "notification": "plain_notification",
    "moderation": "hold_for_review",
}


def lost(response: pb.OrchestrateResponse) -> dict[str, tuple[str, str]]:
    """Node -> reason and substitute of each degradation."""
    return {one.node: (one.reason, one.substitute) for one in response.degradations}


async def refused(analyze: Analyze, **changes: object) -> tuple[grpc.StatusCode, list[str]]:
    """The code and the violated fields of a request that must fail."""
    with pytest.raises(grpc.aio.AioRpcError) as error:
        await analyze.ask(**changes)
    fields = []
    for detail in status_of(error.value).details:
        bad = details_pb.BadRequest()
        if detail.Unpack(bad):
            fields += [violation.field for violation in bad.field_violations]
    return error.value.code(), fields


@pytest.mark.parametrize("service", ["profile", "clip", "timing", "ranker", "text", "moderation"])
async def test_a_killed_service_degrades_the_answer_and_names_its_substitute(
    analyze: Analyze, service: str
) -> None:
    await analyze.kill(SERVICES[service])
    nodes = ["caption", "notification"] if service == "text" else [service]
    response = await analyze.ask(moderate=True)
    assert response.degraded
    assert lost(response) == {node: ("UNAVAILABLE", SUBSTITUTES[node]) for node in nodes}


async def test_all_services_killed_still_give_an_answer(analyze: Analyze) -> None:
    for service in SERVICES.values():
        await analyze.kill(service)
    response = await analyze.ask(moderate=True)
    assert set(lost(response)) == set(SUBSTITUTES)
    assert response.moderation.decision == moderation_pb.DECISION_REVIEW
    assert not response.HasField("quality_score")
    assert response.suggested_caption == "Test caption"


async def test_confidence_is_the_rankers_times_the_factors(analyze: Analyze) -> None:
    await analyze.kill(SERVICES["clip"])
    response = await analyze.ask()
    (degradation,) = response.degradations
    assert 0 < degradation.confidence_factor <= 1
    assert response.confidence == pytest.approx(0.8 * degradation.confidence_factor)


async def test_without_clip_quality_is_absent_everywhere_and_tags_are_the_authors(
    analyze: Analyze,
) -> None:
    await analyze.kill(SERVICES["clip"])
    response = await analyze.ask(tags=["sunset", "sea"])
    assert not response.HasField("quality_score")
    assert not analyze.fakes.ranker.requests[0].HasField("quality_score")
    assert not analyze.fakes.timing.requests[0].HasField("quality_score")
    assert [(tag.label, tag.source) for tag in response.tags] == [
        ("sunset", "author"),
        ("sea", "author"),
    ]


async def test_linear_substitute_of_the_ranker_moves_with_what_survived(analyze: Analyze) -> None:
    await analyze.kill(SERVICES["ranker"])
    good = await analyze.ask()
    analyze.fakes.clip.answer = lambda _: clip_pb.AnalyzeImageResponse(
        quality_score=2.0, model=MODEL
    )
    poor = await analyze.ask()
    await analyze.kill(SERVICES["clip"])
    blind = await analyze.ask()
    scores = [response.engagement_score for response in (poor, blind, good)]
    assert scores == sorted(scores)
    assert len(set(scores)) == 3


async def test_plain_notification_moves_with_what_survived(analyze: Analyze) -> None:
    await analyze.kill(SERVICES["text"])
    whole = await analyze.ask()
    assert "19:00" in whole.notification
    assert "70 of 100" in whole.notification


async def test_unknown_user_gets_the_population_prior_and_is_told(analyze: Analyze) -> None:
    analyze.fakes.profile.error = NotFoundError("user", "12")
    response = await analyze.ask()
    assert lost(response) == {"profile": ("NOT_FOUND", "population_prior")}
    request = analyze.fakes.ranker.requests[0]
    assert not request.HasField("follower_count")
    assert not request.HasField("avg_engagement")


@pytest.mark.parametrize(
    ("node", "garbage", "fault"),
    [
        ("clip", clip_pb.AnalyzeImageResponse(quality_score=float("nan"), model=MODEL), "finite"),
        ("clip", clip_pb.AnalyzeImageResponse(quality_score=11, model=MODEL), "expected 0 to 10"),
        ("clip", clip_pb.AnalyzeImageResponse(), "model is empty"),
        (
            "profile",
            profile_pb.GetUserProfileResponse(user=profile_pb.UserProfile(posts_by_hour=[1.0])),
            "expected 168",
        ),
        (
            "timing",
            timing_pb.SuggestPostingTimesResponse(optimal_hour_of_week=168, model=MODEL),
            "expected 0 to 167",
        ),
        ("ranker", ranker_pb.ScorePostResponse(confidence=0.5, model=MODEL), "reach is empty"),
        ("moderation", moderation_pb.ModerateContentResponse(risk=0.5), "not stated"),
    ],
)
async def test_garbage_counts_as_no_answer(
    analyze: Analyze, node: str, garbage: object, fault: str
) -> None:
    getattr(analyze.fakes, node).answer = lambda _: garbage
    response = await analyze.ask(moderate=True)
    assert lost(response) == {node: ("INVALID_OUTPUT", SUBSTITUTES[node])}
    report = next(report for report in response.nodes if report.node == node)
    assert fault in report.error


async def test_a_slow_node_is_given_up_in_time_for_those_behind_it(analyze: Analyze) -> None:
    analyze.fakes.clip.delay_s = 30
    response = await analyze.ask(timeout_s=1.0)  # or gRPC would say that its time was over
    assert lost(response) == {"clip": ("DEADLINE_EXCEEDED", "author_tags")}
    await analyze.fakes.clip.cancelled.wait()


async def test_without_a_deadline_of_the_caller_the_graphs_own_governs(analyze: Analyze) -> None:
    analyze.fakes.clip.delay_s = 30
    response = await analyze.ask(timeout_s=None, explain=True)
    assert 190_000 < response.explanation.time_left_us <= 200_000
    assert lost(response)["clip"] == ("DEADLINE_EXCEEDED", "author_tags")
    assert max(analyze.fakes.clip.left_s) < 0.2


async def test_a_caller_that_leaves_takes_the_running_nodes_with_him(analyze: Analyze) -> None:
    analyze.fakes.clip.delay_s = 30
    asking = asyncio.create_task(analyze.ask())
    await analyze.fakes.clip.started.wait()
    asking.cancel()
    await asyncio.wait_for(analyze.fakes.clip.cancelled.wait(), 5)
    assert not analyze.fakes.ranker.requests


async def test_media_is_only_required_where_something_looks_at_it(analyze: Analyze) -> None:
    assert await refused(analyze, media=b"") == (grpc.StatusCode.INVALID_ARGUMENT, ["media"])


@pytest.mark.parametrize(
    ("changes", "field"),
    [
        ({"user_id": -1}, "user_id"),
        ({"user_id": 0}, "user_id"),
        ({"media": b""}, "media"),
        ({"media": b"x" * (8 * 2**20 + 1)}, "media"),
        ({"caption": "x" * 2**20}, "caption"),
        ({"tags": ["x"] * 10_000}, "tags"),
        ({"tags": ["ok", " "]}, "tags[1]"),
        ({"tags": ["x" * 101]}, "tags[0]"),
        ({"content_type": "film"}, "content_type"),
        ({"action": "predict"}, "action"),
        ({"locale": "../etc"}, "locale"),
        ({"wanted": FieldMask(paths=["best_time"])}, "wanted"),
    ],
)
async def test_bad_input_is_refused_with_the_field_that_is_wrong(
    analyze: Analyze, changes: dict[str, object], field: str
) -> None:
    assert await refused(analyze, **changes) == (grpc.StatusCode.INVALID_ARGUMENT, [field])
    assert not analyze.fakes.profile.requests


async def test_a_picture_that_clip_cannot_read_is_the_callers_error_in_his_words(
    analyze: Analyze,
) -> None:
    analyze.fakes.clip.error = InvalidRequestError(
        Violation("image", "no image", "a JPEG, PNG, WebP or GIF")
    )
    with pytest.raises(grpc.aio.AioRpcError) as error:
        await analyze.ask()
    assert error.value.code() is grpc.StatusCode.INVALID_ARGUMENT
    assert error.value.details() == "media is no image, a JPEG, PNG, WebP or GIF"


async def test_a_wrong_field_that_another_node_filled_is_no_fault_of_the_caller(
    analyze: Analyze,
) -> None:
    analyze.fakes.timing.error = InvalidRequestError(Violation("time_zone", "Mars", "an IANA zone"))
    response = await analyze.ask()
    assert lost(response) == {"timing": ("INVALID_ARGUMENT", "population_hours")}


async def test_an_engine_error_degrades(analyze: Analyze) -> None:
    analyze.fakes.ranker.error = EngineError("model failed")
    response = await analyze.ask()
    assert lost(response) == {"ranker": ("INTERNAL", "linear_score")}
