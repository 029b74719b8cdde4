from pathlib import Path

import pytest

from services.gateway.__main__ import load_plans
from services.gateway.config import GatewayConfig
from serving.settings import SettingsError, load


def test_targets_are_found_by_service_and_may_be_added() -> None:
    config = GatewayConfig(clip="dns:///clip:50051", targets="a.v1.B=ipv4:1:1,2:2; c.v1.D=d:3")
    assert config.target("fomofeed.clip.v1.ClipService") == "dns:///clip:50051"
    assert config.target("a.v1.B") == "ipv4:1:1,2:2"
    assert config.target("c.v1.D") == "d:3"


def test_a_service_without_a_target_is_named_with_the_remedy() -> None:
    with pytest.raises(ValueError, match=r"no target for a\.v1\.B: add a\.v1\.B=HOST:PORT"):
        GatewayConfig().target("a.v1.B")


@pytest.mark.parametrize("wrong", [{"targets": "clip"}, {"start_grace_s": -1}, {"cache_bytes": -1}])
def test_settings_that_make_no_sense_are_refused(wrong: dict[str, object]) -> None:
    with pytest.raises(ValueError, match=r"targets|start_grace_s|cache_bytes"):
        GatewayConfig(**wrong)  # type: ignore[arg-type]


def test_settings_come_from_the_environment() -> None:
    (config,) = load("gateway", GatewayConfig, environ={"FOMOFEED_GATEWAY_CLIP": "clip:1"})
    assert config.clip == "clip:1"


def test_a_wrong_graph_file_stops_the_start_with_its_line(tmp_path: Path) -> None:
    (tmp_path / "wrong.yaml").write_text("name: wrong\nnods: {}\n")
    with pytest.raises(SettingsError, match=r"wrong\.yaml:2: unknown key 'nods'"):
        load_plans(GatewayConfig(graphs=tmp_path))
