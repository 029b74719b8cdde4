"""Engine calls that are shorter than the way to the instance's thread and back."""

from collections.abc import Callable

from serving.engines.instance import Instance
from serving.models.rows import Outputs, Rows, run_batch
from serving.models.statistics import EngineStatistics
from serving.scheduling.service_time import ServiceTime

# Handing a call to a thread and its answer back costs about 0.12 ms of CPU in a busy process
# (docs/bench/served.md, row "thread"), since both threads then contend for the interpreter.
HAND_OVER_S = 1e-4


class EngineShortcut:
    """Runs an idle instance's engine on the event loop, for calls that take under `HAND_OVER_S`.

    `times` are of the engine alone, by shape bucket, learned by whoever calls it. Calls that turn
    out longer than predicted delay the loop four times at most: then that is known.
    """

    def __init__(
        self,
        instance: Instance,
        times: ServiceTime,
        statistics: EngineStatistics,
        max_rows: Callable[[], int],
    ) -> None:
        self._instance, self._times, self._statistics = instance, times, statistics
        self._max_rows = max_rows

    def is_shorter(self, item: Rows) -> bool:
        """Whether the call is known, and known to be short."""
        line = self._times.line(item.bucket)
        return line is not None and line.predict(item.rows) < HAND_OVER_S

    def infer(self, item: Rows) -> Outputs:
        """Returns the outputs for the rows of one request."""
        (outputs,), calls = run_batch(self._instance.engine, [item], self._max_rows())
        for rows, seconds in calls:
            self._times.observe(item.bucket, rows, seconds, 0.0)
            self._statistics.ran(rows, seconds)
        return outputs
