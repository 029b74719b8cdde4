"""Our rules for Kubernetes, checked on what kubectl really renders."""

from pathlib import Path

import pytest
import yaml
from rendered_overlays import ROOT, Document, Overlay, container, pod, rendered

from cluster.ports import GATEWAY, SERVICES, PortPlan, Service
from serving import settings
from serving.rpc.lifecycle import LIVENESS
from serving.rpc.server import ServerConfig

EVERY_SERVICE = pytest.mark.parametrize("service", SERVICES, ids=lambda service: service.name)


def deployment_of(overlay: Overlay, service: Service) -> Document:
    return overlay.one("Deployment", f"fomofeed-{service.name}")


def test_every_server_of_the_cluster_has_a_deployment_and_no_other_exists(overlay: Overlay) -> None:
    names = {each["metadata"]["name"] for each in overlay.all("Deployment")}
    assert names == {f"fomofeed-{service.name}" for service in SERVICES}


@EVERY_SERVICE
def test_ports_are_those_of_the_cluster_table_everywhere(
    overlay: Overlay, service: Service
) -> None:
    deployment = deployment_of(overlay, service)
    plan = PortPlan()
    wanted = {"grpc": plan.port(service), "metrics": plan.metrics_port(service)}
    ports = {port["name"]: port["containerPort"] for port in container(deployment)["ports"]}
    headless = overlay.one("Service", f"fomofeed-{service.name}")["spec"]
    assert ports == wanted
    assert {port["name"]: port["port"] for port in headless["ports"]} == wanted
    assert container(deployment)["args"] == [service.module]


@EVERY_SERVICE
def test_probes_ask_the_right_health_name_on_the_grpc_port(
    overlay: Overlay, service: Service
) -> None:
    server = container(deployment_of(overlay, service))
    port = PortPlan().port(service)
    assert server["startupProbe"]["grpc"] == {"port": port, "service": service.rpc_service}
    assert server["readinessProbe"]["grpc"] == {"port": port, "service": service.rpc_service}
    assert server["livenessProbe"]["grpc"] == {"port": port, "service": LIVENESS}


@EVERY_SERVICE
def test_the_servers_accept_their_settings(overlay: Overlay, service: Service) -> None:
    environ = overlay.settings(deployment_of(overlay, service))
    known = {key: value for key, value in environ.items() if _is_of_the_runtime(key, service)}
    (config,) = settings.load(service.name, ServerConfig, environ=known)
    assert config.host == "0.0.0.0"
    assert config.port == PortPlan().port(service)
    assert config.metrics_port == PortPlan().metrics_port(service)
    assert all(key.startswith(f"FOMOFEED_{service.name.upper()}_") for key in environ)


def _is_of_the_runtime(key: str, service: Service) -> bool:
    field = key.removeprefix(f"FOMOFEED_{service.name.upper()}_").lower()
    return field in ServerConfig.__dataclass_fields__


@EVERY_SERVICE
def test_the_grace_period_covers_lame_duck_drain_and_ten_seconds(
    overlay: Overlay, service: Service
) -> None:
    deployment = deployment_of(overlay, service)
    environ = overlay.settings(deployment)
    prefix = f"FOMOFEED_{service.name.upper()}"
    needed = sum(float(environ[f"{prefix}_{part}_S"]) for part in ("LAME_DUCK", "DRAIN_GRACE"))
    assert pod(deployment)["terminationGracePeriodSeconds"] == needed + 10
    assert "lifecycle" not in container(deployment)


@EVERY_SERVICE
def test_pods_are_restricted(overlay: Overlay, service: Service) -> None:
    deployment = deployment_of(overlay, service)
    whole, server = pod(deployment), container(deployment)["securityContext"]
    assert whole["securityContext"]["runAsNonRoot"] is True
    assert whole["securityContext"]["runAsUser"] > 0
    assert whole["securityContext"]["seccompProfile"] == {"type": "RuntimeDefault"}
    assert whole["automountServiceAccountToken"] is False
    assert whole["enableServiceLinks"] is False
    assert server["readOnlyRootFilesystem"] is True
    assert server["allowPrivilegeEscalation"] is False
    assert server["capabilities"] == {"drop": ["ALL"]}


@EVERY_SERVICE
def test_images_are_pinned_and_resources_are_said(overlay: Overlay, service: Service) -> None:
    server = container(deployment_of(overlay, service))
    _, _, tag = server["image"].partition(":")
    assert tag not in ("", "latest")
    assert {"cpu", "memory"} <= set(server["resources"]["requests"])
    assert "memory" in server["resources"]["limits"]


@EVERY_SERVICE
def test_services_are_headless_and_select_their_pods(overlay: Overlay, service: Service) -> None:
    headless = overlay.one("Service", f"fomofeed-{service.name}")["spec"]
    labels = deployment_of(overlay, service)["spec"]["template"]["metadata"]["labels"]
    assert headless["clusterIP"] == "None"
    assert headless["selector"].items() <= labels.items()
    assert headless["selector"]["app.kubernetes.io/name"] == service.name


@EVERY_SERVICE
def test_disruptions_take_one_pod_at_a_time_and_pods_are_spread(
    overlay: Overlay, service: Service
) -> None:
    budget = overlay.one("PodDisruptionBudget", f"fomofeed-{service.name}")["spec"]
    deployment = deployment_of(overlay, service)
    spread = pod(deployment)["topologySpreadConstraints"]
    assert budget["maxUnavailable"] == 1
    assert budget["selector"] == deployment["spec"]["selector"]
    assert {each["topologyKey"] for each in spread} == {
        "kubernetes.io/hostname",
        "topology.kubernetes.io/zone",
    }


def test_a_server_with_a_store_never_runs_twice(overlay: Overlay) -> None:
    claims = {each["metadata"]["name"] for each in overlay.all("PersistentVolumeClaim")}
    owners = [each for each in overlay.all("Deployment") if _claims(each)]
    assert {claim for owner in owners for claim in _claims(owner)} == claims
    for owner in owners:
        assert owner["spec"]["strategy"] == {"type": "Recreate"}
        assert owner["spec"]["replicas"] == 1


def _claims(deployment: Document) -> list[str]:
    volumes = pod(deployment)["volumes"]
    return [
        volume["persistentVolumeClaim"]["claimName"]
        for volume in volumes
        if "persistentVolumeClaim" in volume
    ]


def test_the_gateway_dials_every_service_by_its_headless_name(overlay: Overlay) -> None:
    environ = overlay.settings(deployment_of(overlay, GATEWAY))
    for service in SERVICES:
        if service is not GATEWAY:
            target = f"dns:///fomofeed-{service.name}:{PortPlan().port(service)}"
            assert environ[f"FOMOFEED_GATEWAY_{service.name.upper()}"] == target


def test_the_gpu_component_gives_image_models_a_gpu_and_nobody_else(tmp_path: Path) -> None:
    # kustomize accepts relative paths only, so the overlay is written beside the others' root
    depth = "/".join([".."] * (len(tmp_path.resolve().parts) - 1))
    root = f"{depth}{ROOT}"
    overlay = {
        "resources": [f"{root}/k8s/overlays/production"],
        "components": [f"{root}/k8s/components/gpu"],
    }
    (tmp_path / "kustomization.yaml").write_text(yaml.safe_dump(overlay))
    deployments = Overlay(rendered(tmp_path)).all("Deployment")
    on_gpu = [each for each in deployments if _gpus(each)]
    assert {each["metadata"]["name"] for each in on_gpu} == {"fomofeed-clip", "fomofeed-moderation"}
    assert all(_gpus(each) == "1" for each in on_gpu)
    assert all(each["spec"]["strategy"]["rollingUpdate"]["maxSurge"] == 0 for each in on_gpu)


def _gpus(deployment: Document) -> str | None:
    limit = container(deployment)["resources"]["limits"].get("nvidia.com/gpu")
    return None if limit is None else str(limit)
