from dataclasses import dataclass
from pathlib import Path

from serving.models.artifacts import DEFAULT_REPOSITORY


@dataclass(frozen=True, slots=True)
class RankerConfig:
    """Where the model and the weight profiles are. Filled from `FOMOFEED_RANKER_*`."""

    model_repository: Path = DEFAULT_REPOSITORY
    weights: Path = Path(__file__).parent / "weights.yaml"
    max_batch_rows: int = 4096  # rows of one engine call, >= 1; a feed is split into such batches
    max_queue_rows: int = 65536  # rows that wait, >= max_batch_rows
