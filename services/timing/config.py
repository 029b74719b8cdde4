from dataclasses import dataclass
from pathlib import Path

from serving.models.artifacts import DEFAULT_REPOSITORY


@dataclass(frozen=True, slots=True)
class TimingConfig:
    """Where the prior and the recorded outcomes are. Filled from `FOMOFEED_TIMING_*`."""

    model_repository: Path = DEFAULT_REPOSITORY
    database: Path = Path(".fomofeed/timing.sqlite")  # of outcomes; created when missing
    max_queue_rows: int = 512  # users that wait, >= 1
