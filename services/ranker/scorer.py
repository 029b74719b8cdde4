"""The ranker's model behind both kinds of request: columns of inputs in, columns of answers out."""

import asyncio
from collections.abc import Mapping
from dataclasses import dataclass
from types import TracebackType
from typing import Any, Self

import numpy as np
from numpy.typing import NDArray

from fomofeed.type.v1 import type_pb2
from services.ranker.config import RankerConfig
from services.ranker.features import COLUMN_COUNT, fingerprint, probes, to_rows, unlearned
from services.ranker.heads import WIDTHS
from serving import request
from serving.models.artifacts import Artifact, ArtifactError, Manifest, open_artifact
from serving.models.model import Model, model_ref
from serving.models.renewable import Renewable
from serving.models.served import Served
from serving.scheduling.scheduler import BatchingConfig

ARTIFACT = "feed-ranker"
Columns = Mapping[str, NDArray[np.float64]]


@dataclass(frozen=True, slots=True)
class Predictions:
    """What the model says of each row. A row whose inputs were not finite is NaN throughout."""

    actions: NDArray[np.float64]  # (rows, 4), probability per impression
    score: NDArray[np.float64]  # (rows,), 0 to 100
    reach: NDArray[np.float64]  # (rows, 3), accounts: p10, p50, p90
    confidence: NDArray[np.float64]  # (rows,), 0 to 1
    contributions: NDArray[np.float64]  # (rows, inputs), points of the score
    ref: type_pb2.ModelRef  # who said it
    unlearned: tuple[str, ...]  # inputs that move nothing of what this version says


@dataclass(frozen=True, slots=True)
class Actions:
    """The (rows, 4) probabilities alone, and who said so; NaN as in `Predictions`."""

    rates: NDArray[np.float64]
    ref: type_pb2.ModelRef


@dataclass(eq=False)
class Version(Served):
    """A version of the model, and which inputs it learned nothing of."""

    unlearned: tuple[str, ...] = ()


class Scorer:
    """The loaded model; an async context manager, used from one event loop."""

    def __init__(self, config: RankerConfig) -> None:
        self._config = config
        self._renewing = asyncio.Lock()
        self.served: Version

    async def __aenter__(self) -> Self:
        self.served = await self._open(await self._artifact())
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        await self.served.close()

    @property
    def ref(self) -> type_pb2.ModelRef:
        return self.served.model.ref

    @property
    def renewable(self) -> Renewable:
        """What `RenewableModels` takes up new versions of."""
        return Renewable(lambda: self.ref, self.renew, lambda: self.served)

    async def renew(self) -> None:
        """Serves the highest version of the repository from now on.

        Calls under way end with the version that they began with. Raises `ArtifactError`, and then
        all is as it was. Not to be cancelled: see `RenewableModels`.
        """
        async with self._renewing:
            artifact = await self._artifact()
            if model_ref(artifact) == self.ref:
                return
            fresh = await self._open(artifact)
            old, self.served = self.served, fresh
            await old.close()

    async def predict(self, columns: Columns, row_count: int) -> Predictions:
        """Predicts for `row_count` posts; `columns` as `features.to_rows` takes them."""
        outputs, version = await self._infer(columns, row_count)
        return _predictions(outputs, version)

    async def actions(self, columns: Columns, row_count: int) -> Actions:
        """Predicts no more than a feed is ordered by."""
        outputs, version = await self._infer(columns, row_count)
        rates = outputs["actions"].astype(np.float64)
        rates[~np.isfinite(rates).all(axis=1)] = np.nan
        return Actions(rates, version.model.ref)

    async def _infer(
        self, columns: Columns, row_count: int
    ) -> tuple[Mapping[str, NDArray[Any]], Version]:
        served = self.served
        with served:
            with request.current().ledger.measure("preprocess"):
                rows = to_rows(columns, row_count)
            if not row_count:
                return _nothing(), served
            return await served.model.infer({"rows": rows}), served

    async def _artifact(self) -> Artifact:
        return await asyncio.to_thread(open_artifact, self._config.model_repository, ARTIFACT)

    async def _open(self, artifact: Artifact) -> Version:
        """Loads, checks and warms a version; leaves nothing behind when it raises."""
        limits = BatchingConfig(
            max_batch_rows=self._config.max_batch_rows, max_queue_rows=self._config.max_queue_rows
        )
        try:
            model = await asyncio.to_thread(Model.open, artifact, limits)
        except Exception as error:  # the boundary to the engine: told to who loads
            raise ArtifactError(f"{artifact.path.name} cannot be run: {error}") from error
        _check(artifact, model)
        await model.__aenter__()
        still = unlearned(await model.infer({"rows": probes()}))
        return Version(ARTIFACT, model.ref.version, model, unlearned=still)


def _check(artifact: Artifact, model: Model) -> None:
    """Raises `ArtifactError` for other tensors than this code's, or features of other code."""
    check_features(artifact.manifest)  # first, for it says what to do
    who = f"{artifact.manifest.name} {artifact.manifest.version}"
    takes = {spec.name: spec.shape[-1] for spec in model.inputs}
    gives = {spec.name: spec.shape[-1] for spec in model.outputs}
    if takes != {"rows": COLUMN_COUNT} or gives != WIDTHS:
        raise ArtifactError(f"{who} takes {takes} and gives {gives}, not what this server does")


def check_features(manifest: Manifest) -> None:
    """Raises `ArtifactError` for a model that was learned from features of other code."""
    learned_from = (manifest.preprocessing or {}).get("features", fingerprint())
    if learned_from != fingerprint():
        who = f"{manifest.name} {manifest.version}"
        found = f"{who} was learned from features {learned_from}, not from {fingerprint()}"
        raise ArtifactError(f"{found} of this code: delete its folder, then train again")


def _nothing() -> dict[str, NDArray[Any]]:
    return {name: np.empty((0, width)) for name, width in WIDTHS.items() if name != "log_value"}


def _predictions(outputs: Mapping[str, NDArray[Any]], version: Version) -> Predictions:
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
        ref=version.model.ref,
        unlearned=version.unlearned,
    )
