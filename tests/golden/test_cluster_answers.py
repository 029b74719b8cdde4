"""A photograph goes through seven server processes and comes back as an answer worth reading."""

import json

import pytest
from google.protobuf import json_format
from running_cluster import (
    ENOUGH_S,
    PHOTOS,
    RunningCluster,
    node_of,
    photo,
    request,
    service_named,
)

from cluster.ports import GATEWAY, SERVICES, Service
from fomofeed.gateway.v1 import orchestrator_service_pb2 as pb

EVERY_SERVICE = pytest.mark.parametrize("service", SERVICES, ids=lambda service: service.name)
NODES = ["profile", "clip", "moderation", "timing", "ranker", "caption", "notification"]


async def test_a_photograph_is_answered_whole(cluster: RunningCluster) -> None:
    async with cluster.gateway() as stub:
        answer = await stub.Orchestrate(request(), timeout=ENOUGH_S)
    assert not answer.degraded
    assert answer.tags[0].label == "coffee"
    assert 0 < answer.quality_score <= 10
    assert answer.optimal_hour_of_week % 24 == answer.optimal_time
    interval = answer.expected_reach_interval
    assert 0 <= interval.p10 <= answer.expected_reach == interval.p50 <= interval.p90
    assert "First cup" in answer.suggested_caption
    assert answer.notification
    assert 0 < answer.confidence <= 1
    assert answer.moderation.not_assessed
    assert [node.node for node in answer.nodes] == NODES


async def test_every_node_says_which_model_answered_and_how_long_it_took(
    cluster: RunningCluster,
) -> None:
    async with cluster.gateway() as stub:
        answer = await stub.Orchestrate(request("china.jpg"), timeout=ENOUGH_S)
    for name in NODES:
        node = node_of(answer, name)
        assert node.state == pb.NODE_STATE_SUCCEEDED, node
        assert 0 < node.elapsed_us <= node.budget_us
        assert node.ledger.replica
        if name != "profile":  # a store, not a model
            assert len(node.ledger.model.artifact_sha256) == 64


async def test_the_answer_does_not_depend_on_when_it_is_asked(cluster: RunningCluster) -> None:
    async with cluster.gateway() as stub:
        first = await stub.Orchestrate(request(), timeout=ENOUGH_S)
        again = await stub.Orchestrate(request(), timeout=ENOUGH_S)
    assert first.suggested_caption == again.suggested_caption
    assert first.engagement_score == pytest.approx(again.engagement_score, abs=1e-5)
    assert first.quality_score == pytest.approx(again.quality_score, abs=1e-5)


async def test_moderation_runs_only_when_it_is_asked_for(cluster: RunningCluster) -> None:
    async with cluster.gateway() as stub:
        answer = await stub.Orchestrate(request(moderate=False), timeout=ENOUGH_S)
    assert not answer.HasField("moderation")
    assert not answer.degraded


async def test_only_what_is_wanted_runs(cluster: RunningCluster) -> None:
    wanted = request()
    wanted.wanted.paths.append("quality_score")
    async with cluster.gateway() as stub:
        answer = await stub.Orchestrate(wanted, timeout=ENOUGH_S)
    assert answer.HasField("quality_score")
    assert not answer.HasField("engagement_score")
    assert {node.node for node in answer.nodes} == {"clip"}


def test_the_command_draws_the_answer_and_prints_it_as_json(cluster: RunningCluster) -> None:
    coffee = str(next(PHOTOS.glob("*-coffee.png")))
    options = ("--caption", "First cup", "--tags", "coffee,morning", "--timeout", "10")
    drawn = cluster.command("analyze", coffee, *options)
    assert drawn.returncode == 0, drawn.stderr
    for words in ("whole answer", "of 10", "local time", "Who answered", "efficientnet-lite0"):
        assert words in drawn.stdout
    printed = cluster.command("analyze", coffee, *options, "--json")
    answer = json_format.Parse(printed.stdout, pb.OrchestrateResponse())
    assert {"optimal_time", "expected_reach"} <= json.loads(printed.stdout).keys()
    assert answer.tags[0].label == "coffee"


def test_errors_reach_a_person_in_plain_words(cluster: RunningCluster) -> None:
    refused = cluster.command("analyze", __file__)
    assert refused.returncode == 1
    assert "refused as it is (INVALID_ARGUMENT" in refused.stderr
    assert "Traceback" not in refused.stderr
    nobody = cluster.command("analyze", __file__, "--address", "127.0.0.1:1")
    assert nobody.returncode == 1
    assert "no server answers" in nobody.stderr


def test_a_second_cluster_in_the_same_place_is_refused(cluster: RunningCluster) -> None:
    second = cluster.command("up")
    assert second.returncode == 1
    assert f"supervisor {cluster.state().supervisor.pid}" in second.stderr


@EVERY_SERVICE
def test_grpcurl_needs_no_proto_file(cluster: RunningCluster, service: Service) -> None:
    assert service.rpc_service in cluster.grpcurl(service, "list")
    described = cluster.grpcurl(service, "describe", service.rpc_service)
    assert "rpc " in described
    health = cluster.grpcurl(service, "grpc.health.v1.Health/Check")
    assert json.loads(health) == {"status": "SERVING"}


def test_grpcurl_sends_the_json_of_the_feeds_callers(cluster: RunningCluster) -> None:
    body = json_format.MessageToDict(pb.OrchestrateRequest(media=photo("coffee.png")))
    body |= {
        "user_id": 12,
        "content_type": "post",
        "caption": "Test caption #ai",
        "tags": ["ai", "test"],
        "action": "analyze",
    }
    method = f"{GATEWAY.rpc_service}/Orchestrate"
    answer = json.loads(cluster.grpcurl(GATEWAY, method, body=json.dumps(body)))
    assert "media_path" in body
    assert answer["suggested_caption"].startswith("Test caption #ai")
    assert 0 <= answer["optimal_time"] <= 23


def test_status_shows_every_server_with_its_process(cluster: RunningCluster) -> None:
    servers = cluster.status()
    assert set(servers) == {service.name for service in SERVICES}
    assert all(server["health"] == "SERVING" for server in servers.values())
    assert len({server["pid"] for server in servers.values()}) == len(SERVICES)
    assert servers["gateway"]["figures"]["call_count"] > 0
    assert servers["clip"]["target"] == cluster.ports.target(service_named("clip"))
