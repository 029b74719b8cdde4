"""The timing model behind the servicer: a batcher over one thread that draws, and the outcomes."""

import asyncio
from concurrent.futures import ThreadPoolExecutor
from contextlib import AsyncExitStack
from dataclasses import dataclass
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
from serving.models.artifacts import ArtifactError, open_artifact
from serving.models.model import model_ref
from serving.models.renewable import Renewable
from serving.scheduling.batcher import Batcher
from serving.scheduling.scheduler import BatchingConfig

Array = NDArray[np.float64]
ARTIFACT = "posting-times"
MAX_BATCH_USERS = 8  # each takes about 4 ms, whoever else is in the batch


@dataclass(frozen=True, slots=True)
class Loaded:
    """One version: what draws, its lifts, and who it is."""

    model: RateModel
    lifts: Lifts
    ref: type_pb2.ModelRef


class Advisor:
    """Draws weekly curves for users; an async context manager, used from one event loop."""

    def __init__(self, config: TimingConfig) -> None:
        self._config = config
        self._stack = AsyncExitStack()
        self._renewing = asyncio.Lock()
        self.loaded: Loaded
        self.outcomes: OutcomeStore

    async def __aenter__(self) -> Self:
        async with AsyncExitStack() as stack:
            self._loop = asyncio.get_running_loop()
            self._thread = stack.enter_context(ThreadPoolExecutor(1, "timing-model"))
            self.loaded = await self._loop.run_in_executor(self._thread, self._load)
            telemetry.announce(self.loaded.ref)
            batching = BatchingConfig(
                max_batch_rows=MAX_BATCH_USERS, max_queue_rows=self._config.max_queue_rows
            )
            self._batcher = await stack.enter_async_context(
                Batcher[tuple[RateModel, Array, Array], Array]([self._infer], batching, ARTIFACT)
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

    @property
    def renewable(self) -> Renewable:
        """What `RenewableModels` takes up new versions of."""
        return Renewable(lambda: self.loaded.ref, self.renew)

    async def renew(self) -> None:
        """Serves the highest version of the repository from now on; raises `ArtifactError`."""
        async with self._renewing:
            fresh = await self._loop.run_in_executor(self._thread, self._load)
            telemetry.withdraw(self.loaded.ref)
            self.loaded = fresh
            telemetry.announce(fresh.ref)

    async def draw(self, loaded: Loaded, posts: Array, engagements: Array) -> Array:
        """Returns equally likely weekly curves, (draws, 168), for (168,) counts of one user."""
        facts = request.current()
        facts.ledger.model = loaded.ref
        return await self._batcher.submit(
            (loaded.model, posts, engagements),
            deadline=facts.deadline,
            criticality=facts.criticality,
            ledger=facts.ledger,
        )

    def _load(self) -> Loaded:
        artifact = open_artifact(self._config.model_repository, ARTIFACT)
        try:
            trained = read(artifact.path)
        except (KeyError, ValueError, OSError) as error:  # of NumPy, for a file of another kind
            raise ArtifactError(f"{artifact.path.name} is no prior: {error}") from error
        loaded = Loaded(RateModel(trained.prior), trained.lifts, model_ref(artifact))
        nobody = np.zeros(168)
        loaded.model.draw(nobody, nobody)  # the first call pays for NumPy's lazy imports
        return loaded

    async def _infer(self, users: list[tuple[RateModel, Array, Array]]) -> list[Array]:
        return await self._loop.run_in_executor(self._thread, _draw_all, users)


def _draw_all(users: list[tuple[RateModel, Array, Array]]) -> list[Array]:
    return [model.draw(posts, engagements) for model, posts, engagements in users]
