"""What a service keeps of a user is asked for anew each time: deleted there, it is gone here."""

import pytest

from services.gateway.__main__ import load_plans
from services.gateway.config import GatewayConfig

KEEPERS = ("fomofeed.profile.v1.ProfileService", "fomofeed.timing.v1.TimingService")
PLANS = load_plans(GatewayConfig())


@pytest.mark.parametrize("name", sorted(PLANS))
def test_answers_of_services_that_keep_users_are_never_remembered(name: str) -> None:
    kept = {
        node.name: node.cache_s for node in PLANS[name].nodes.values() if node.service in KEEPERS
    }
    assert kept
    assert set(kept.values()) == {0.0}
