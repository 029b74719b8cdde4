"""Engine calls that are shorter than the way to the instance's thread and back."""

from collections.abc import Callable, Hashable

from serving.engines.engine import Engine
from serving.engines.instance import Instance
from serving.models.rows import Calls, Outputs, Rows
from serving.models.statistics import EngineStatistics
from serving.scheduling.service_time import ServiceTime

# What a call costs that is queued, handed to a thread and answered from there, in a busy process:
# by the machine 0.1 to 0.3 ms of CPU (docs/bench/served.md, rows "queue" and "thread"), since both
# threads then contend for the interpreter.
HAND_OVER_S = 2e-4
_PROBE_EVERY = 32  # calls that were handed over ...
_PROBE_BELOW_S = 1e-3  # ... of a model that delays the loop by no more than this


class EngineShortcut:
    """Runs an idle instance's engine on the event loop, for calls that take under `HAND_OVER_S`.

    `times` are of the engine alone, by shape bucket, as long as it takes on the loop: on the
    instance's thread the wait for the interpreter and cold caches add more than the whole of a
    short call (60 us here were 240 there), so what is seen there is an upper bound. Calls that turn
    out longer than predicted delay the loop four times at most: then that is known. So that a busy
    moment does not send a short model away for good, now and then one call tries it again.
    """

    def __init__(
        self,
        instance: Instance,
        times: ServiceTime,
        statistics: EngineStatistics,
        run: Callable[[Engine, list[Rows]], tuple[list[Outputs], Calls]],
    ) -> None:
        """`run` is what an instance's thread would do with a batch."""
        self._instance, self._times, self._statistics = instance, times, statistics
        self._run = run
        self._handed_over = 0

    def is_shorter(self, item: Rows) -> bool:
        """Whether the call is known, and known to be short; or else its turn to try."""
        line = self._times.line(item.bucket)
        if line is None:
            return False
        seconds = line.predict(item.work)
        if seconds < HAND_OVER_S:
            return True
        self._handed_over += 1
        return self._handed_over % _PROBE_EVERY == 0 and seconds < _PROBE_BELOW_S

    def infer(self, item: Rows) -> Outputs:
        """Returns the outputs for the rows of one request."""
        (outputs,), calls = self._run(self._instance.engine, [item])
        for rows, work, seconds in calls:
            self._times.observe(item.bucket, work, seconds, 0.0)
            self._statistics.ran(rows, seconds)
        return outputs


def learn_bound(times: ServiceTime, bucket: Hashable, work: int, seconds: float) -> None:
    """Learns from a call on the instance's thread: on the loop it would not have taken longer."""
    line = times.line(bucket)
    if line is None or seconds < line.predict(work):
        times.observe(bucket, work, seconds, 0.0)
