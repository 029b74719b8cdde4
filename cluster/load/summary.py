"""The figures of one measurement."""

from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from cluster.load.outcomes import Outcomes

QUANTILES = (0.5, 0.9, 0.95, 0.99, 0.999)
LAG_SHARE_OF_SLO = 0.1  # a client later than this (p99) measures itself, not the server


@dataclass(frozen=True, slots=True)
class Summary:
    """What a schedule showed, after its warm-up. Rates are calls a second, times seconds.

    `offered` is what was meant to be sent. A good call was OK within the SLO from its intended
    time. `latency` holds the quantiles of the OK calls, `refusal` of those that ended otherwise:
    mixing them would let quick refusals hide slow answers.
    """

    offered: float
    answered: float
    goodput: float
    good_share: float
    calls: int
    seconds: float
    slo_s: float
    statuses: dict[str, int]
    latency: dict[str, float]
    mean_s: float
    refusal: dict[str, float]
    lag_p99_s: float
    lag_bound_s: float
    client_cpu: float  # of one core, over all client processes
    client_processes: int

    @property
    def complaint(self) -> str:
        """Why these figures are the client's and not the server's; empty when it kept up."""
        if self.lag_p99_s > self.lag_bound_s:
            return (
                f"the client sent {self.lag_p99_s * 1e3:.1f} ms late (p99), at most "
                f"{self.lag_bound_s * 1e3:.1f} ms: use a lower rate or more processes"
            )
        return ""

    def to_json(self) -> dict[str, Any]:
        return {**asdict(self), "complaint": self.complaint}


def summarize(
    outcomes: Outcomes,
    seconds: float,
    *,
    slo_s: float,
    client_cpu: float = 0.0,
    processes: int = 1,
    lag_bound_s: float | None = None,
) -> Summary:
    """Sums up calls over `seconds`, the length of the schedule after its warm-up."""
    ok = outcomes.is_ok
    latency = outcomes.latency
    good = int((ok & (latency <= slo_s)).sum())
    lag = outcomes.lag
    return Summary(
        offered=len(outcomes) / seconds,
        answered=int(ok.sum()) / seconds,
        goodput=good / seconds,
        good_share=good / max(1, len(outcomes)),
        calls=len(outcomes),
        seconds=seconds,
        slo_s=slo_s,
        statuses=outcomes.counts(),
        latency=_quantiles(latency[ok]),
        mean_s=float(latency[ok].mean()) if ok.any() else float("nan"),
        refusal=_quantiles(latency[~ok & ~np.isnan(latency)]),
        lag_p99_s=float(np.quantile(lag, 0.99)) if lag.size else 0.0,
        lag_bound_s=LAG_SHARE_OF_SLO * slo_s if lag_bound_s is None else lag_bound_s,
        client_cpu=client_cpu,
        client_processes=processes,
    )


def over_time(
    outcomes: Outcomes, slo_s: float, window_s: float
) -> dict[str, list[tuple[float, float]]]:
    """Returns offered and good calls a second, and p50 and p99 (s) of OK calls, by window."""
    windows = (outcomes.intended // window_s).astype(np.int64)
    series: dict[str, list[tuple[float, float]]] = {
        name: [] for name in ("offered", "goodput", "p50", "p99")
    }
    latency, ok = outcomes.latency, outcomes.is_ok
    for window in range(int(windows.max()) + 1 if len(outcomes) else 0):
        inside = windows == window
        at = (window + 0.5) * window_s
        series["offered"].append((at, float(inside.sum()) / window_s))
        series["goodput"].append((at, float((inside & ok & (latency <= slo_s)).sum()) / window_s))
        seen = latency[inside & ok]
        if seen.size:
            series["p50"].append((at, float(np.quantile(seen, 0.5))))
            series["p99"].append((at, float(np.quantile(seen, 0.99))))
    return series


def spread(values: list[float]) -> float:
    """Returns half the range over the middle of it: ± this share covers every value."""
    low, high = min(values), max(values)
    return (high - low) / (high + low) if high + low else 0.0


def _quantiles(seconds: NDArray[np.float64]) -> dict[str, float]:
    """Returns those that the calls can tell: no call of 50 is above their p99."""
    if not seconds.size:
        return {}
    told = [q for q in QUANTILES if q == QUANTILES[0] or (seconds.size + 1) * (1 - q) >= 1]
    values = {f"p{100 * q:g}": float(np.quantile(seconds, q)) for q in told}
    return {**values, "max": float(seconds.max())}
