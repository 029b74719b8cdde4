"""What one batcher tells Prometheus; labels bound once."""

from serving import telemetry
from serving.errors import ServingError
from serving.scheduling.scheduler import Scheduler


class BatcherMetrics:
    """The metrics of the batcher `name`."""

    def __init__(self, name: str, scheduler: Scheduler) -> None:
        self._name = name
        self._delay = telemetry.QUEUE_DELAY.labels(name)
        self._rows = telemetry.BATCH_ROWS.labels(name)
        self._seconds = telemetry.ENGINE_DURATION.labels(name)
        self._scheduler = scheduler

    def announce(self) -> None:
        """Makes this batcher the one of its name: of two, the one announced last is told of."""
        queue, times = self._scheduler.queue, self._scheduler.service_time
        telemetry.QUEUE_ROWS.labels(self._name).set_function(lambda: queue.rows)
        telemetry.SERVICE_TIMES.watch(self._name, times.learned)

    def waited(self, seconds: float) -> None:
        """Counts a request whose engine call begins after so long in the queue."""
        self._delay.observe(seconds)

    def ran(self, rows: int, seconds: float) -> None:
        """Counts an engine call."""
        self._rows.observe(rows)
        self._seconds.observe(seconds)

    def refused(self, error: ServingError) -> None:
        """Counts a request that got no answer."""
        reason = getattr(error, "reason", None) or error.code.name
        telemetry.REFUSED.labels(self._name, reason).inc()
