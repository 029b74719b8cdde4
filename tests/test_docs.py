"""The tables in docs/ say what the code says."""

import re
from pathlib import Path

import pytest
from prometheus_client import REGISTRY

from cluster.ports import SERVICES, PortPlan, Service
from services.clip import metrics as clip_metrics
from services.gateway import metrics as gateway_metrics
from serving import errors, telemetry
from serving.errors import NodeError, ServingError

DOCS = Path(__file__).resolve().parents[1] / "docs"


def rows(document: str) -> list[list[str]]:
    """The cells of every table row of a document."""
    lines = (DOCS / document).read_text(encoding="utf-8").splitlines()
    return [
        [cell.strip(" `") for cell in line.strip("|").split("|")] for line in lines if "|" in line
    ]


def test_every_error_class_stands_in_the_table_with_its_code() -> None:
    classes = {
        name: error.code.name
        for name, error in vars(errors).items()
        if isinstance(error, type)
        and issubclass(error, ServingError)
        and error not in (ServingError, NodeError)
    }
    table = {row[0]: row[1] for row in rows("errors.md") if row[0].endswith("Error")}
    assert table.pop("NodeError") == "that node's"
    assert table == classes


@pytest.mark.parametrize("service", SERVICES, ids=lambda service: service.name)
def test_the_documented_ports_are_those_of_the_cluster(service: Service) -> None:
    documented = {row[0]: row[1:] for row in rows("architecture.md")}
    plan = PortPlan()
    assert documented[service.name] == [str(plan.port(service)), str(plan.metrics_port(service))]


def test_every_documented_metric_exists() -> None:
    assert gateway_metrics and clip_metrics and telemetry  # their metrics register when imported
    exported = {family.name for family in REGISTRY.collect()}
    text = (DOCS / "operations.md").read_text(encoding="utf-8")
    documented = {name.removesuffix("_total") for name in re.findall(r"`(fomofeed_[a-z_]+)", text)}
    assert documented
    assert documented <= exported
