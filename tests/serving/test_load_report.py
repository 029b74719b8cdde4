"""What a server tells of its speed, call by call; and what replicas and a client make of it."""

from random import Random

import grpc
import hypothesis
import pytest
from hypothesis import strategies as st

from serving.rpc.load_report import RENEWED_AFTER_S, LoadReport
from tests.serving.simulated_replicas import Client, Replica, weight
from tests.virtual_time import virtual_time

OK, CANCELLED = grpc.StatusCode.OK, grpc.StatusCode.CANCELLED
UNAVAILABLE, NOT_FOUND = grpc.StatusCode.UNAVAILABLE, grpc.StatusCode.NOT_FOUND
FOREVER_S = 1e9


def warm(over_s: float = FOREVER_S) -> LoadReport:
    """A report that tells from now on, 0."""
    report = LoadReport(after_s=0.0, over_s=over_s)
    report.begin(0.0)
    report.end(0.0, OK, 0.0, 0.0)
    return report


def calls(
    report: LoadReport,
    begin: float,
    count: int,
    lasting_s: float,
    code: grpc.StatusCode = OK,
    queued_s: float = 0.0,
) -> float:
    """Makes calls one after the other; returns the weight that the last one told."""
    told = 0.0
    for number in range(count):
        report.begin(begin + number * lasting_s)
        told = weight(report.end(begin + (number + 1) * lasting_s, code, lasting_s, queued_s))
    return told


def test_a_server_that_takes_twice_as_long_weighs_a_quarter() -> None:
    assert calls(warm(), 0.0, 20, 0.1) == pytest.approx(1 / 0.1**2)
    assert calls(warm(), 0.0, 20, 0.2) == pytest.approx(1 / 0.2**2)


def test_waiting_in_a_queue_counts_once_and_work_twice() -> None:
    told = calls(warm(), 0.0, 20, 0.2, queued_s=0.15)
    assert told == pytest.approx(1 / (0.2 * 0.05))


def test_parts_that_waited_side_by_side_longer_than_their_call_make_no_server_look_fast() -> None:
    assert calls(warm(), 0.0, 20, 0.2, queued_s=0.9) == calls(warm(), 0.0, 20, 0.2)


def test_a_queue_longer_than_what_is_remembered_makes_no_server_look_fast() -> None:
    report = warm(over_s=20.0)
    for _ in range(60):
        report.begin(0.0)
    for number in range(60):
        told = weight(report.end(2.0 * (number + 1), OK, 2.0 * (number + 1), 2.0 * number))
    assert told < 1 / 2.0**2


def test_a_cold_server_tells_nothing_and_forgets_how_slow_it_was() -> None:
    report = LoadReport(after_s=10.0, over_s=FOREVER_S)
    assert calls(report, 0.0, 9, 1.0) == 0.0
    assert calls(report, 9.0, 20, 0.1) == pytest.approx(1 / 0.1**2)


def test_the_same_bytes_are_told_until_they_are_renewed() -> None:
    report = warm()
    first = calls(report, 0.0, 1, RENEWED_AFTER_S)
    assert calls(report, RENEWED_AFTER_S, 9, RENEWED_AFTER_S / 10) == first
    assert calls(report, 2 * RENEWED_AFTER_S, 1, RENEWED_AFTER_S / 10) > first


def test_a_failure_at_once_makes_no_server_look_fast() -> None:
    sound, broken = warm(), warm()
    for second in range(20):
        well = calls(sound, second, 10, 0.1)
        calls(broken, second, 2, 0.1)
        ill = calls(broken, second + 0.2, 8, 0.001, UNAVAILABLE)
    assert ill < well / 15  # a fifth of its calls are answered


def test_a_server_that_answers_nothing_weighs_next_to_nothing() -> None:
    assert 0 < calls(warm(), 0.0, 1000, 0.001, UNAVAILABLE) < 1e-2 * calls(warm(), 0.0, 20, 0.5)


def test_a_callers_mistake_is_no_failure() -> None:
    assert calls(warm(), 0.0, 20, 0.1, NOT_FOUND) == calls(warm(), 0.0, 20, 0.1)


def test_a_slow_server_looks_no_faster_when_its_callers_leave_early() -> None:
    waited_for, left = warm(), warm()
    for round_ in range(20):
        slow = calls(waited_for, float(round_), 1, 0.5)
        calls(left, float(round_), 9, 0.05, CANCELLED)
        abandoned = calls(left, round_ + 0.45, 1, 0.5)
    assert abandoned < slow


def test_calls_that_hang_are_seen_while_they_hang() -> None:
    report = warm()
    quick = calls(report, 0.0, 20, 0.1)
    for _ in range(4):
        report.begin(2.0)
    assert calls(report, 2.0, 10, 0.1) < quick / 2


def test_an_idle_server_keeps_its_figure_and_the_next_calls_outweigh_it() -> None:
    report = warm(over_s=20.0)
    before = calls(report, 0.0, 20, 0.4)
    assert calls(report, 100.0, 1, 0.4) == pytest.approx(before, rel=0.2)
    assert calls(report, 200.0, 3, 0.1) == pytest.approx(1 / 0.1**2, rel=0.2)
    assert calls(report, 1e6, 3, 0.1) == pytest.approx(1 / 0.1**2)


@hypothesis.given(
    st.lists(st.tuples(st.floats(0, 100), st.floats(1e-3, 10)), min_size=1, max_size=30)
)
def test_however_calls_overlap_their_mean_time_is_told(spans: list[tuple[float, float]]) -> None:
    report = warm()
    events = [(begin, 0.0) for begin, _ in spans]
    events += [(begin + lasting, lasting) for begin, lasting in spans]
    for at, lasted_s in sorted(events):
        report.end(at, OK, lasted_s, 0.0) if lasted_s else report.begin(at)
    report.begin(1000.0)
    told = weight(report.end(1005.0, OK, 5.0, 0.0))
    mean_s = (sum(lasting for _, lasting in spans) + 5.0) / (len(spans) + 1)
    assert told == pytest.approx(mean_s**-2, rel=1e-5)


SERVICE_S = 0.05


async def sharing(load: float, slower: float = 1.0, is_weighing: bool = True) -> Client:
    """Three replicas, the last `slower`, under `load` of what three usual ones can bear.

    Looks at some 4,000 calls after those of the first half minute.
    """
    random, rate = Random(7), load * 3 / SERVICE_S
    client = Client([Replica(SERVICE_S * factor, random) for factor in (1, 1, slower)])
    await client.run(rate, 30.0, is_weighing)
    await client.run(rate, 4000 / rate, is_weighing)
    return client


@virtual_time
async def test_equal_replicas_share_evenly_and_no_caller_waits_longer_than_in_turn() -> None:
    weighed, in_turn = await sharing(0.9), await sharing(0.9, is_weighing=False)
    assert all(0.3 < weighed.share(replica) < 0.37 for replica in range(3))
    assert weighed.p99_s < 1.2 * in_turn.p99_s


@virtual_time
async def test_near_the_limit_a_replica_half_as_fast_is_no_bottleneck() -> None:
    load = 0.95 * 2.5 / 3
    weighed, in_turn = await sharing(load, 2.0), await sharing(load, 2.0, is_weighing=False)
    assert weighed.p99_s < in_turn.p99_s / 5


@pytest.mark.parametrize("slower", [4.0, 10.0, 30.0])
@virtual_time
async def test_a_slow_replica_of_three_keeps_fewer_calls_than_may_be_hedged(slower: float) -> None:
    client = await sharing(0.15, slower)
    assert 0 < client.share(2) < 0.05


@virtual_time
async def test_a_replica_that_is_fast_again_has_its_share_within_a_minute() -> None:
    client = await sharing(0.3, 10.0)
    client.replicas[2].service_s = SERVICE_S
    await client.run(0.3 * 3 / SERVICE_S, 60.0)
    await client.run(0.3 * 3 / SERVICE_S, 30.0)
    assert client.share(2) > 0.25
