"""The timing model behind the servicer: a batcher over one thread that draws, and the outcomes."""

import asyncio
from concurrent.futures import ThreadPoolExecutor
from contextlib import AsyncExitStack
from types import TracebackType
from typing import Self

import numpy as np
from numpy.typing import NDArray

from fomofeed.type.v1 import type_pb2
from services.timing.config import TimingConfig
from services.timing.lifts import Lifts
from services.timing.outcomes import OutcomeStore
from services.timing.prior_file import read
from services.timing.rates import RateModel
from serving import request, telemetry
from serving.models.artifacts import open_artifact
from serving.models.model import model_ref
from serving.scheduling.batcher import Batcher
from serving.scheduling.scheduler import BatchingConfig

Array = NDArray[np.float64]
ARTIFACT = "posting-times"
MAX_BATCH_USERS = 8  # each takes about 4 ms, whoever else is in the batch


class Advisor:
    """Draws weekly curves for users; an async context manager, used from one event loop."""

    def __init__(self, config: TimingConfig) -> None:
        self._config = config
        self._stack = AsyncExitStack()
        self._model: RateModel
        self.lifts: Lifts
        self.outcomes: OutcomeStore
        self.ref: type_pb2.ModelRef

    async def __aenter__(self) -> Self:
        async with AsyncExitStack() as stack:
            self._loop = asyncio.get_running_loop()
            self._thread = stack.enter_context(ThreadPoolExecutor(1, "timing-model"))
            await self._loop.run_in_executor(self._thread, self._load)
            batching = BatchingConfig(
                max_batch_rows=MAX_BATCH_USERS, max_queue_rows=self._config.max_queue_rows
            )
            self._batcher = await stack.enter_async_context(
                Batcher[tuple[Array, Array], Array]([self._infer], batching, ARTIFACT)
            )
            self.outcomes = await stack.enter_async_context(OutcomeStore(self._config.database))
            self._stack = stack.pop_all()
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        await self._stack.aclose()

    async def draw(self, posts: Array, engagements: Array) -> Array:
        """Returns equally likely weekly curves, (draws, 168), for (168,) counts of one user."""
        facts = request.current()
        facts.ledger.model = self.ref
        return await self._batcher.submit(
            (posts, engagements),
            deadline=facts.deadline,
            criticality=facts.criticality,
            ledger=facts.ledger,
        )

    def _load(self) -> None:
        artifact = open_artifact(self._config.model_repository, ARTIFACT)
        trained = read(artifact.path)
        self._model, self.lifts = RateModel(trained.prior), trained.lifts
        self.ref = model_ref(artifact)
        telemetry.announce(self.ref)
        nobody = np.zeros(168)
        self._model.draw(nobody, nobody)  # the first call pays for NumPy's lazy imports

    async def _infer(self, users: list[tuple[Array, Array]]) -> list[Array]:
        return await self._loop.run_in_executor(self._thread, self._draw_all, users)

    def _draw_all(self, users: list[tuple[Array, Array]]) -> list[Array]:
        return [self._model.draw(posts, engagements) for posts, engagements in users]
