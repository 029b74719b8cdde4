"""Models that a service owns and makes anew from its repository while it serves.

Nothing is watched: who has published a version asks for it with `load`. What serves stays when the
new version does not load.
"""

import asyncio
from collections.abc import Awaitable, Callable, Coroutine, Sequence
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import Any, Self

from fomofeed.type.v1 import type_pb2
from serving.errors import ModelLoadError, NotFoundError, NotImplementedHereError
from serving.models.artifacts import ArtifactError
from serving.models.served import IndexEntry, Served, State, pick


@dataclass(frozen=True, slots=True)
class Renewable:
    """One model of a service. `served` is None where it has no tensors to be asked for."""

    ref: Callable[[], type_pb2.ModelRef]
    renew: Callable[[], Awaitable[None]]  # raises `ArtifactError` and leaves all as it was
    served: Callable[[], Served] | None = None

    def entry(self) -> IndexEntry:
        """Returns its line of the index."""
        ref = self.ref()
        reason = "" if self.served else "answers through its service alone: it has no tensors"
        state = State.READY if self.served else State.UNAVAILABLE  # for the protocol
        return IndexEntry(ref.model, ref.version, state, reason)


class RenewableModels:
    """See `Models`: of a service that can load the highest version of what it has.

    An async context manager, to be left before its models are closed; belongs to one event loop.
    """

    can_load = True

    def __init__(self, models: Sequence[Renewable], root: Path) -> None:
        """`root` is the repository's folder, which no caller is told of."""
        self._root = root
        self._models = {model.ref().model: model for model in models}
        self._tasks: set[asyncio.Task[None]] = set()

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        """Waits for what still loads."""
        if self._tasks:
            await asyncio.wait(self._tasks)

    def is_ready(self) -> bool:
        return True

    def find(self, name: str, version: str = "") -> Served:
        """Returns what serves; raises `NotFoundError`."""
        return pick(name, version, {one.name: {one.version: one} for one in self.serving()})

    def serving(self) -> Sequence[Served]:
        return [model.served() for model in self._models.values() if model.served]

    async def index(self) -> Sequence[IndexEntry]:
        return [model.entry() for model in self._models.values()]

    async def load(self, name: str) -> None:
        """Serves the highest version; goes on when the caller leaves.

        Raises `NotFoundError`, `ModelLoadError`.
        """
        if name not in self._models:
            raise NotFoundError("model", name, sorted(self._models))
        await asyncio.shield(self._own(self._renew(name)))

    async def unload(self, name: str) -> None:
        raise NotImplementedHereError("unloading models", "they belong to the service")

    async def _renew(self, name: str) -> None:
        try:
            await self._models[name].renew()
        except ArtifactError as error:
            raise ModelLoadError(name, str(error).replace(f"{self._root}/", "")) from error

    def _own(self, work: Coroutine[Any, Any, None]) -> "asyncio.Task[None]":
        task = asyncio.get_running_loop().create_task(work)
        self._tasks.add(task)
        task.add_done_callback(self._done)
        return task

    def _done(self, task: "asyncio.Task[None]") -> None:
        self._tasks.discard(task)
        if not task.cancelled():
            task.exception()  # was told to the caller, unless it has left
