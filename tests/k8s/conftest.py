import pytest
from rendered_overlays import OVERLAYS, ROOT, Overlay, rendered


@pytest.fixture(params=OVERLAYS)
def overlay(request: pytest.FixtureRequest) -> Overlay:
    return Overlay(rendered(ROOT / "k8s/overlays" / request.param))
