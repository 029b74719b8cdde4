"""The ranker's model behind both kinds of request: columns of inputs in, columns of answers out."""

from collections.abc import Mapping
from contextlib import AsyncExitStack
from dataclasses import dataclass
from types import TracebackType
from typing import Any, Self

import numpy as np
from numpy.typing import NDArray

from fomofeed.type.v1 import type_pb2
from services.ranker.config import RankerConfig
from services.ranker.features import to_rows
from serving import request
from serving.models.artifacts import open_artifact
from serving.models.model import Model
from serving.scheduling.scheduler import BatchingConfig

ARTIFACT = "feed-ranker"


@dataclass(frozen=True, slots=True)
class Predictions:
    """What the model says of each row. A row whose inputs were not finite is NaN throughout."""

    actions: NDArray[np.float64]  # (rows, 4), probability per impression
    score: NDArray[np.float64]  # (rows,), 0 to 100
    reach: NDArray[np.float64]  # (rows, 3), accounts: p10, p50, p90
    confidence: NDArray[np.float64]  # (rows,), 0 to 1
    contributions: NDArray[np.float64]  # (rows, inputs), points of the score


class Scorer:
    """The loaded model; an async context manager, used from one event loop."""

    def __init__(self, config: RankerConfig) -> None:
        self._config = config
        self._stack = AsyncExitStack()
        self.model: Model

    async def __aenter__(self) -> Self:
        artifact = open_artifact(self._config.model_repository, ARTIFACT)
        batching = BatchingConfig(
            max_batch_rows=self._config.max_batch_rows, max_queue_rows=self._config.max_queue_rows
        )
        self.model = await self._stack.enter_async_context(Model.open(artifact, batching))
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        await self._stack.aclose()

    @property
    def ref(self) -> type_pb2.ModelRef:
        return self.model.ref

    async def predict(
        self, columns: Mapping[str, NDArray[np.float64]], row_count: int
    ) -> Predictions:
        """Predicts for `row_count` posts; `columns` as `features.to_rows` takes them."""
        with request.current().ledger.measure("preprocess"):
            rows = to_rows(columns, row_count)
        if not row_count:
            return _predictions(_nothing())
        return _predictions(await self.model.infer({"rows": rows}))


def _nothing() -> dict[str, NDArray[Any]]:
    widths = {"actions": 4, "score": 1, "reach": 3, "confidence": 1, "contributions": 8}
    return {name: np.empty((0, width)) for name, width in widths.items()}


def _predictions(outputs: Mapping[str, NDArray[Any]]) -> Predictions:
    arrays = {name: array.astype(np.float64) for name, array in outputs.items()}
    bad = ~np.isfinite(arrays["actions"]).all(axis=1)
    for array in arrays.values():
        array[bad] = np.nan
    return Predictions(
        actions=arrays["actions"],
        score=np.clip(arrays["score"][:, 0], 0.0, 100.0),
        reach=arrays["reach"],
        confidence=arrays["confidence"][:, 0],
        contributions=arrays["contributions"],
    )
