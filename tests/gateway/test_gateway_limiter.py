"""The limiter against a small simulated service, on simulated time."""

import hypothesis
import pytest
from hypothesis import strategies as st

from services.gateway.policies.limiter import Limiter, LimiterConfig
from serving.request import Criticality


def probed(**config: int) -> Limiter:
    """A limiter whose first probe is over."""
    limiter = Limiter(LimiterConfig(**config))
    for _ in range(20):
        assert limiter.try_acquire(Criticality.CRITICAL)
        limiter.release(0.01)
    return limiter


def settle(limiter: Limiter, slots: int, service_s: float, seconds: float) -> float:
    """Keeps the limiter full against a service of `slots` workers; returns the last full duration.

    A call takes `service_s` while a worker is free, and in proportion longer when it must share.
    """
    time_s, duration_s = 0.0, service_s
    while time_s < seconds:
        while limiter.try_acquire(Criticality.CRITICAL):
            pass
        running = limiter.in_flight
        duration_s = service_s * max(1.0, running / slots)
        for _ in range(running):
            limiter.release(duration_s)
        time_s += duration_s
    return duration_s


def test_the_limit_grows_to_what_the_service_can_do_at_once() -> None:
    limiter = Limiter(LimiterConfig(initial=4))
    duration_s = settle(limiter, slots=32, service_s=0.01, seconds=5)
    assert limiter.limit >= 32
    assert duration_s <= 3 * 0.01


def test_a_load_that_never_lets_up_does_not_make_it_drift() -> None:
    limiter = Limiter(LimiterConfig())
    settle(limiter, slots=32, service_s=0.01, seconds=60)
    assert 32 <= limiter.limit <= 3 * 32


def test_a_service_that_becomes_four_times_slower_is_learned_within_5_s() -> None:
    limiter = Limiter(LimiterConfig())
    settle(limiter, slots=32, service_s=0.01, seconds=5)
    before = limiter.limit
    settle(limiter, slots=8, service_s=0.01, seconds=5)
    assert 8 <= limiter.limit < before


def test_a_service_whose_every_call_takes_longer_keeps_its_concurrency() -> None:
    limiter = Limiter(LimiterConfig())
    settle(limiter, slots=32, service_s=0.01, seconds=5)
    duration_s = settle(limiter, slots=32, service_s=0.04, seconds=5)
    assert limiter.limit >= 32
    assert duration_s <= 3 * 0.04


def test_refusals_by_the_service_shrink_the_limit_to_its_least_and_no_further() -> None:
    limiter = probed(initial=20, least=4)
    for _ in range(100):
        assert limiter.try_acquire(Criticality.CRITICAL)
        limiter.overloaded()
    assert limiter.limit == 4


def test_refusals_of_calls_that_ran_together_lower_the_limit_once() -> None:
    limiter = probed(initial=20)
    for _ in range(10):
        assert limiter.try_acquire(Criticality.CRITICAL)
    for _ in range(10):
        limiter.overloaded()
    assert limiter.limit == 18
    assert limiter.try_acquire(Criticality.CRITICAL)
    limiter.overloaded()
    assert limiter.limit == 16


def test_critical_calls_are_spared_the_probe_and_a_crowd_of_them_ends_it() -> None:
    limiter = probed(initial=40, probe_windows=1)
    while limiter.limit > 4:
        while limiter.try_acquire(Criticality.CRITICAL):
            pass
        limiter.release(0.01)
    while limiter.in_flight:
        limiter.release(0.01)  # from before the probe
    assert not all(limiter.try_acquire(Criticality.DEFAULT) for _ in range(4))
    while limiter.try_acquire(Criticality.CRITICAL):
        pass
    assert limiter.in_flight >= 40
    for _ in range(20):
        limiter.release(5.0)  # tells nothing of a call alone
        assert limiter.try_acquire(Criticality.CRITICAL)
    while limiter.limit == 4:
        limiter.release(5.0)
    assert limiter.limit >= 40


def test_there_is_room_for_a_call_that_nobody_needs_only_where_sheddable_calls_find_a_place() -> (
    None
):
    limiter = probed(initial=20)
    for _ in range(11):
        assert limiter.try_acquire(Criticality.DEFAULT)
    assert limiter.has_room
    assert limiter.try_acquire(Criticality.DEFAULT)
    assert not limiter.has_room


def test_an_unused_limit_does_not_grow() -> None:
    limiter = probed(initial=20)
    for _ in range(1000):
        assert limiter.try_acquire(Criticality.DEFAULT)
        limiter.release(0.01)
    assert limiter.limit == 20


def test_sheddable_work_goes_first_then_optional_nodes_and_critical_work_last() -> None:
    limiter = probed(initial=100)
    places = {}
    for name, criticality, is_optional in (
        ("optional sheddable", Criticality.SHEDDABLE, True),
        ("sheddable", Criticality.SHEDDABLE, False),
        ("optional", Criticality.DEFAULT, True),
        ("default", Criticality.DEFAULT, False),
        ("critical", Criticality.CRITICAL, False),
    ):
        while limiter.try_acquire(criticality, is_optional):
            pass
        places[name] = limiter.in_flight
    assert list(places.values()) == [48, 60, 72, 90, 100]


@hypothesis.given(
    st.lists(st.tuples(st.sampled_from("arox"), st.floats(1e-4, 10), st.sampled_from(Criticality)))
)
def test_whatever_happens_the_limit_stays_within_its_bounds_and_every_place_is_counted(
    events: list[tuple[str, float, Criticality]],
) -> None:
    config = LimiterConfig(initial=8, least=2, most=30)
    limiter, held = Limiter(config), 0
    for kind, duration_s, criticality in events:
        if kind == "a":
            held += limiter.try_acquire(criticality)
        elif held:
            held -= 1
            if kind == "o":
                limiter.overloaded()
            else:
                limiter.release(duration_s if kind == "r" else None)
        assert limiter.in_flight == held
        assert config.least <= limiter.limit <= config.most


@pytest.mark.parametrize("wrong", [{"least": 0}, {"initial": 2}, {"tolerance": 0.5}])
def test_a_limiter_that_could_not_work_is_refused(wrong: dict[str, float]) -> None:
    with pytest.raises(ValueError, match="limiter"):
        LimiterConfig(**wrong)  # type: ignore[arg-type]
