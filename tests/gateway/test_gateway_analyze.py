import asyncio
import json

import grpc
import pytest
from google.protobuf import json_format
from google.protobuf.field_mask_pb2 import FieldMask

from fomofeed.gateway.v1 import orchestrator_service_pb2 as pb
from fomofeed.moderation.v1 import moderation_service_pb2 as moderation_pb
from tests.gateway.conftest import Analyze, a_post
from tests.gateway.fake_nodes import MODEL, TUESDAY_19


async def test_whole_answer_carries_every_field_that_callers_know(analyze: Analyze) -> None:
    response = await analyze.ask()
    assert not response.degraded
    assert (response.optimal_time, response.optimal_hour_of_week) == (19, TUESDAY_19)
    assert response.expected_reach == response.expected_reach_interval.p50 == 780
    assert response.engagement_score == pytest.approx(70)
    assert response.quality_score == 7.5
    assert [tag.label for tag in response.tags] == ["beach"]
    assert response.suggested_caption == "Test caption #beach"
    assert response.notification == "Ana 19"
    assert response.confidence == pytest.approx(0.8)


async def test_tuesday_19_in_sao_paulo_reaches_the_ranker_as_hour_of_week_43(
    analyze: Analyze,
) -> None:
    await analyze.ask()
    assert analyze.fakes.timing.requests[0].time_zone == "America/Sao_Paulo"
    assert analyze.fakes.timing.requests[0].engagements_by_hour[43] == 50
    assert analyze.fakes.ranker.requests[0].hour_of_week == 43
    assert analyze.fakes.notification.requests[0].optimal_hour == 19


async def test_golden_request_of_the_callers_parses_as_it_stands_and_is_answered(
    analyze: Analyze,
) -> None:
    body = {
        "user_id": 12,
        "content_type": "post",
        "media_path": "cGljdHVyZQ==",
        "caption": "Test caption #ai",
        "tags": ["ai", "test"],
        "action": "analyze",
    }
    request = json_format.Parse(json.dumps(body), pb.OrchestrateRequest())
    response = await analyze.stub.Orchestrate(request, timeout=10)
    answer = json_format.MessageToDict(response, preserving_proto_field_name=True)
    assert analyze.fakes.clip.requests[0].image == b"picture"
    assert {"optimal_time", "expected_reach", "suggested_caption", "confidence"} <= set(answer)


async def test_reports_name_every_node_with_its_model_and_time(analyze: Analyze) -> None:
    response = await analyze.ask()
    states = {report.node: report.state for report in response.nodes}
    assert states.pop("moderation") == pb.NODE_STATE_SKIPPED
    assert set(states.values()) == {pb.NODE_STATE_SUCCEEDED}
    clip = next(report for report in response.nodes if report.node == "clip")
    assert clip.ledger.model == MODEL
    assert 0 < clip.elapsed_us < clip.budget_us < 10_000_000


async def test_tenant_travels_to_the_nodes(analyze: Analyze) -> None:
    await analyze.ask()
    assert analyze.fakes.ranker.tenants == ["studio"]


async def test_only_ancestors_of_what_is_wanted_run(analyze: Analyze) -> None:
    response = await analyze.ask(wanted=FieldMask(paths=["optimal_time"]))
    assert [report.node for report in response.nodes] == ["profile", "clip", "timing"]
    assert response.optimal_time == 19
    assert not response.suggested_caption
    assert not analyze.fakes.caption.requests


async def test_moderation_runs_when_asked_and_sees_picture_caption_and_tags(
    analyze: Analyze,
) -> None:
    response = await analyze.ask(moderate=True)
    (request,) = analyze.fakes.moderation.requests
    assert request.image == b"picture"
    assert list(request.texts) == ["Test caption", "ai", "test"]
    assert response.moderation.decision == moderation_pb.DECISION_ALLOW
    assert response.moderation.risk == pytest.approx(0.1)


async def test_empty_action_means_analyze(analyze: Analyze) -> None:
    response = await analyze.ask(action="")
    assert response.optimal_time == 19


async def test_explanation_shows_the_critical_path_and_the_budgets(analyze: Analyze) -> None:
    analyze.fakes.clip.delay_s = 0.2
    response = await analyze.ask(explain=True)
    explanation = response.explanation
    assert list(explanation.critical_path) == ["clip", "timing", "ranker", "notification"]
    timing = next(node for node in explanation.nodes if node.node == "timing")
    assert list(timing.after) == ["profile", "clip"]
    assert timing.started_us >= 200_000
    kept_us = explanation.reserve_us + timing.expected_after_us
    left_us = explanation.time_left_us - timing.started_us
    assert timing.budget_us == pytest.approx(left_us - kept_us, abs=1000)
    assert not (await analyze.ask()).HasField("explanation")


async def test_stream_tells_each_node_as_it_ends_then_the_result(analyze: Analyze) -> None:
    call = analyze.stub.StreamOrchestrate(pb.StreamOrchestrateRequest(request=a_post()), timeout=10)
    events = [event async for event in call]
    nodes = [event.node.node for event in events[:-1]]
    assert nodes.index("timing") < nodes.index("ranker") < nodes.index("notification")
    assert len(nodes) == 7
    assert events[-1].result.optimal_time == 19


async def test_leaving_a_stream_stops_the_work(analyze: Analyze) -> None:
    analyze.fakes.clip.delay_s = 30
    call = analyze.stub.StreamOrchestrate(pb.StreamOrchestrateRequest(request=a_post()), timeout=10)
    first = await call.read()
    assert isinstance(first, pb.StreamOrchestrateResponse)
    call.cancel()
    await asyncio.wait_for(analyze.fakes.clip.cancelled.wait(), 5)


async def test_a_stream_of_a_bad_request_fails_with_its_field(analyze: Analyze) -> None:
    request = pb.StreamOrchestrateRequest(request=a_post(user_id=-1))
    with pytest.raises(grpc.aio.AioRpcError) as error:
        await analyze.stub.StreamOrchestrate(request, timeout=10).read()
    assert error.value.code() is grpc.StatusCode.INVALID_ARGUMENT


async def test_batch_answers_each_request_alone_in_order(analyze: Analyze) -> None:
    requests = [a_post(), a_post(user_id=-1), a_post(caption="third")]
    response = await analyze.stub.BatchOrchestrate(
        pb.BatchOrchestrateRequest(requests=requests), timeout=10
    )
    first, second, third = response.results
    assert first.response.suggested_caption == "Test caption #beach"
    assert second.error.code == grpc.StatusCode.INVALID_ARGUMENT.value[0]
    assert third.response.suggested_caption == "third #beach"


async def test_an_empty_batch_is_refused(analyze: Analyze) -> None:
    with pytest.raises(grpc.aio.AioRpcError) as error:
        await analyze.stub.BatchOrchestrate(pb.BatchOrchestrateRequest(), timeout=10)
    assert error.value.code() is grpc.StatusCode.INVALID_ARGUMENT


async def test_the_graph_describes_itself(analyze: Analyze) -> None:
    response = await analyze.stub.DescribeGraph(pb.DescribeGraphRequest(), timeout=10)
    assert response.graph.name == "analyze"
    timing = next(node for node in response.graph.nodes if node.name == "timing")
    assert timing.fields["posts_by_hour"] == "profile.user.posts_by_hour"


async def test_an_unknown_graph_is_not_found_and_the_known_ones_are_named(
    analyze: Analyze,
) -> None:
    with pytest.raises(grpc.aio.AioRpcError) as error:
        await analyze.stub.DescribeGraph(pb.DescribeGraphRequest(graph="predict"), timeout=10)
    assert error.value.code() is grpc.StatusCode.NOT_FOUND
    assert "analyze" in (error.value.details() or "")
