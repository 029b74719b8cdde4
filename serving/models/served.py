"""Models that can be asked by name and version, and what each version is known by."""

import asyncio
from collections.abc import Sequence
from dataclasses import dataclass, field
from types import TracebackType
from typing import Protocol

from serving.errors import NotFoundError, NotImplementedHereError
from serving.models.artifacts import version_key
from serving.models.formats import ONNX, Format
from serving.models.model import Model
from serving.models.options import ModelOptions
from serving.models.statistics import RequestStatistics


class State:
    """States of the index, by Triton's names."""

    READY = "READY"
    LOADING = "LOADING"
    UNLOADING = "UNLOADING"
    UNAVAILABLE = "UNAVAILABLE"


@dataclass(frozen=True, slots=True)
class IndexEntry:
    """A version of a model, or with an empty version the model itself, and why it is so."""

    name: str
    version: str
    state: str
    reason: str = ""


@dataclass(eq=False)
class Served:
    """One version that serves. `with served:` keeps it open while a call is answered."""

    name: str
    version: str
    model: Model
    options: ModelOptions | None = None  # None: its service's affair
    format: Format = ONNX
    statistics: RequestStatistics = field(default_factory=RequestStatistics)
    _calls: int = 0
    _idle: asyncio.Event | None = None

    @property
    def digest(self) -> str:
        """SHA-256 of the artifact, empty for a model that came from no file."""
        return self.model.ref.artifact_sha256

    def __enter__(self) -> "Served":
        self._calls += 1
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._calls -= 1
        if self._idle and not self._calls:
            self._idle.set()

    async def close(self) -> None:
        """Frees the model when its calls have ended; nobody may begin one any more."""
        if self._calls:
            self._idle = asyncio.Event()
            await self._idle.wait()
        await self.model.__aexit__(None, None, None)


class Models(Protocol):
    """What a server of models is given: a repository, or models that its service has made."""

    can_load: bool  # whether `load` and `unload` are offered

    def is_ready(self) -> bool:
        """Whether all models that should serve do."""
        ...

    def find(self, name: str, version: str = "") -> Served:
        """Returns a version, the highest for ""; raises `NotFoundError` or `NotReadyError`.

        It may be entered before control returns to the event loop, not later.
        """
        ...

    def serving(self) -> Sequence[Served]:
        """Returns all versions that serve, by name and ascending version."""
        ...

    async def index(self) -> Sequence[IndexEntry]:
        """Returns what there is, serving or not."""
        ...

    async def load(self, name: str) -> None:
        """Loads a model or brings it up to date; returns when it serves."""
        ...

    async def unload(self, name: str) -> None:
        """Stops a model; returns when its calls are answered."""
        ...


class FixedModels:
    """Models that a service has made and closes itself: none comes, none goes."""

    can_load = False

    def __init__(self, models: Sequence[Model]) -> None:
        self._served: dict[str, dict[str, Served]] = {}
        for model in sorted(models, key=lambda model: version_key(model.ref.version)):
            version = model.ref.version or "1"
            self._served.setdefault(model.name, {})[version] = Served(model.name, version, model)

    def is_ready(self) -> bool:
        return True

    def find(self, name: str, version: str = "") -> Served:
        """Returns a version, the highest for ""; raises `NotFoundError`."""
        return pick(name, version, self._served)

    def serving(self) -> Sequence[Served]:
        return [served for name in sorted(self._served) for served in self._served[name].values()]

    async def index(self) -> Sequence[IndexEntry]:
        return [IndexEntry(served.name, served.version, State.READY) for served in self.serving()]

    async def load(self, name: str) -> None:
        raise NotImplementedHereError("loading models", "they belong to the service")

    async def unload(self, name: str) -> None:
        raise NotImplementedHereError("unloading models", "they belong to the service")


def pick(name: str, version: str, known: dict[str, dict[str, Served]]) -> Served:
    """Finds a version, the highest for "", in dictionaries of ascending ones."""
    versions = known.get(name)
    if not versions:
        raise NotFoundError("model", name, sorted(known))
    if not version:
        return next(reversed(versions.values()))
    if version not in versions:
        raise NotFoundError("model version", f"{name}/{version}", [f"{name}/{v}" for v in versions])
    return versions[version]
