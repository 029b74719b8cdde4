"""One measurement, the same one several times, or a search: what `fomofeed load` runs."""

from collections.abc import Callable
from dataclasses import dataclass, replace

from cluster.load.arrivals import Offsets, constant, poisson
from cluster.load.fleet import Fleet, Watch
from cluster.load.outcomes import Outcomes
from cluster.load.saturation import Search
from cluster.load.summary import Summary, summarize

GOOD_SHARE = 0.99  # of what was offered, in time: a rate with less is beyond saturation
_LATE_CLIENT = 3


@dataclass(frozen=True, slots=True)
class Plan:
    """How a server is asked."""

    rate: float  # calls a second
    seconds: float  # measured, after the warm-up
    warm_up_s: float  # of the same load, not counted
    timeout_s: float  # deadline of a call, from its intended time
    slo_s: float  # what counts as good
    seed: int
    is_poisson: bool = True
    trace: Offsets | None = None  # instead of a rate
    lag_bound_s: float | None = None

    def offsets(self) -> Offsets:
        """Makes the schedule; the same plan gives the same one."""
        if self.trace is not None:
            return self.trace
        length = self.warm_up_s + self.seconds
        return (
            poisson(self.rate, length, self.seed)
            if self.is_poisson
            else constant(self.rate, length)
        )


@dataclass(frozen=True, slots=True)
class Measurement:
    """The figures of one run, and what they were made from."""

    plan: Plan
    summary: Summary
    outcomes: Outcomes


def measure(fleet: Fleet, plan: Plan, watch: Watch) -> Measurement:
    """Runs one plan."""
    offsets = plan.offsets()
    outcomes, cores = fleet.measure(offsets, plan.timeout_s, watch)
    seconds = plan.seconds
    if plan.trace is not None:
        seconds = max(float(offsets[-1]) - plan.warm_up_s, 1e-9)
    summary = summarize(
        outcomes.since(plan.warm_up_s),
        seconds,
        slo_s=plan.slo_s,
        client_cpu=cores,
        processes=fleet.processes,
        lag_bound_s=plan.lag_bound_s,
    )
    return Measurement(plan, summary, outcomes)


def search(
    run: Callable[[Plan], Measurement], plan: Plan, steps: Search
) -> tuple[float, list[Measurement]]:
    """Finds the highest rate with `GOOD_SHARE` in time; returns it and every step.

    A rate at which the client is late `_LATE_CLIENT` times in a row ends the search: beyond it only
    the client is measured.
    """
    done: list[Measurement] = []
    late = 0
    while (rate := steps.next_rate()) is not None:
        measurement = run(replace(plan, rate=rate, seed=plan.seed + len(done)))
        done.append(measurement)
        passed = measurement.summary.good_share >= GOOD_SHARE
        late = late + 1 if measurement.summary.complaint and not passed else 0
        if late == _LATE_CLIENT:
            break
        if not late:
            steps.tell(passed)
    return steps.passed, done
