from prometheus_client import CollectorRegistry, Counter

from serving.telemetry import Tenants


def test_tenants_are_counted_by_name_up_to_a_bound() -> None:
    registry = CollectorRegistry()
    tenants = Tenants(Counter("calls", "Calls.", ("tenant",), registry=registry), most=2)
    for tenant in ("default", "a", "b", "a", "c"):
        tenants.count(tenant)
    counted = {name: registry.get_sample_value("calls_total", {"tenant": name}) for name in "abc"}
    assert counted == {"a": 2, "b": None, "c": None}
    assert registry.get_sample_value("calls_total", {"tenant": "(others)"}) == 2
