import json
from xml.etree import ElementTree

import numpy as np
import pytest

from cluster.load import report
from cluster.load.chart import Chart, draw, ticks
from cluster.load.measure import Measurement, Plan
from cluster.load.outcomes import DEGRADED, LABELS, OK, Outcomes, join
from cluster.load.summary import over_time, spread, summarize

EXHAUSTED = LABELS.index("RESOURCE_EXHAUSTED")


def outcomes(latencies: list[float], statuses: list[int], lag: float = 0.0) -> Outcomes:
    intended = np.arange(len(latencies), dtype=np.float64)
    ended = intended + np.array(latencies)
    return Outcomes(intended, intended + lag, ended, np.array(statuses, np.int8))


def test_only_ok_answers_within_the_slo_are_good() -> None:
    seen = outcomes([0.1, 0.9, 0.1, 0.2], [OK, OK, EXHAUSTED, DEGRADED])
    summary = summarize(seen, seconds=4, slo_s=0.5)
    assert (summary.offered, summary.answered, summary.goodput) == (1.0, 0.75, 0.5)
    assert summary.statuses == {"OK": 2, "RESOURCE_EXHAUSTED": 1, "OK_DEGRADED": 1}


def test_quick_refusals_do_not_hide_slow_answers() -> None:
    seen = outcomes([0.001] * 99 + [0.4], [EXHAUSTED] * 99 + [OK])
    summary = summarize(seen, seconds=100, slo_s=0.5)
    assert summary.latency["p50"] == pytest.approx(0.4)
    assert summary.refusal["p99"] == pytest.approx(0.001)


def test_a_late_client_is_named() -> None:
    late = summarize(outcomes([0.1], [OK], lag=0.06), seconds=1, slo_s=0.5)
    assert "60.0 ms late" in late.complaint
    assert not summarize(outcomes([0.1], [OK], lag=0.04), seconds=1, slo_s=0.5).complaint


def test_calls_that_never_ended_are_unanswered_and_no_latency() -> None:
    summary = summarize(Outcomes.of(np.array([0.0, 1.0])), seconds=2, slo_s=0.5)
    assert summary.statuses == {"UNANSWERED": 2}
    assert summary.latency == summary.refusal == {}


def test_the_warm_up_is_left_out() -> None:
    assert outcomes([0.1] * 5, [OK] * 5).since(2.0).intended.tolist() == [2, 3, 4]


def test_joined_outcomes_are_in_the_order_of_the_schedule() -> None:
    whole = outcomes([0.1, 0.2, 0.3, 0.4], [OK, EXHAUSTED, OK, DEGRADED])
    parts = [
        Outcomes(whole.intended[i::2], whole.sent[i::2], whole.ended[i::2], whole.status[i::2])
        for i in range(2)
    ]
    assert join(parts).status.tolist() == whole.status.tolist()
    assert np.array_equal(join(parts).ended, whole.ended)


def test_windows_over_time_hold_every_call_once() -> None:
    series = over_time(outcomes([0.1] * 10, [OK] * 10), slo_s=0.5, window_s=2.5)
    assert sum(rate * 2.5 for _, rate in series["offered"]) == 10
    assert [at for at, _ in series["p50"]] == [1.25, 3.75, 6.25, 8.75]


def test_spread_covers_every_value() -> None:
    assert spread([95.0, 100.0, 105.0]) == pytest.approx(0.05)


def test_figures_are_json_without_nan() -> None:
    nothing = Outcomes.of(np.array([0.0]))
    plan = Plan(1, 1, 0, 1, 1, seed=1)
    measurement = Measurement(plan, summarize(nothing, seconds=1, slo_s=1), nothing)
    read = json.loads(report.to_json([measurement], saturation=3.0), parse_constant=pytest.fail)
    assert read["saturation"] == 3.0
    assert read["measurements"][0]["mean_s"] is None


def test_a_chart_is_well_formed_and_draws_every_finite_point() -> None:
    lines = {"p50 <ms>": [(0.0, 1.0), (1.0, 10.0)], "p99": [(0.0, float("nan")), (1.0, 0.0)]}
    root = ElementTree.fromstring(draw([Chart("latency & more", "s", "ms", lines, is_log=True)]))
    curves = [line.get("points", "") for line in root.iter("{http://www.w3.org/2000/svg}polyline")]
    assert sum("," in curve and curve.count(",") == 2 for curve in curves)
    assert curves[-1] == ""
    assert "nan" not in "".join(curves)


@pytest.mark.parametrize(("low", "high"), [(0.0, 1.0), (3.0, 417.0), (-1.0, 0.001), (5.0, 5.0)])
def test_ticks_are_few_and_inside(low: float, high: float) -> None:
    found = ticks(low, high)
    assert 1 <= len(found) <= 6
    assert all(low - 1e-9 <= tick <= high + 1e-9 for tick in found)
