"""A folder of models, served: loaded, reloaded, swapped and unloaded without one failed call.

A fresh version is loaded and warmed beside the one that serves; then names point to it, and the
old one is closed when the calls that hold it have ended. A version that does not load leaves
everything as it was, with the reason in the index. Nothing is watched: a model changes when
`load` or `unload` is called. Loading runs on threads, the rest on the event loop.
"""

import asyncio
import logging
from collections.abc import Awaitable, Callable, Coroutine, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from types import TracebackType
from typing import Any

from serving.engines.cpus import available_cpus
from serving.errors import ModelLoadError, NotFoundError, NotReadyError
from serving.models.artifacts import ArtifactError, version_key
from serving.models.folders import NoEngineError, Verified, verify, versions_on_disk
from serving.models.formats import FORMATS
from serving.models.loading import load
from serving.models.options import OPTIONS_FILE, ModelOptions
from serving.models.served import IndexEntry, Served, State, pick

log = logging.getLogger(__name__)

_NOT_ALLOWED = "{} is code: a server runs it only when it was started with --allow-code"

# Told a model's name and whether it serves; "" is the whole repository.
Observer = Callable[[str, bool], Awaitable[None]]


async def _nobody(name: str, serves: bool) -> None:
    """Nobody listens."""


@dataclass(slots=True, eq=False)
class _Slot:
    """What is known of one model. `served` ascends by version."""

    name: str
    served: dict[str, Served] = field(default_factory=dict)
    failures: dict[str, str] = field(default_factory=dict)  # reasons by version; "" = the model
    transition: str = ""  # LOADING, UNLOADING or none
    is_wanted: bool = True
    lock: asyncio.Lock = field(default_factory=asyncio.Lock)

    def put(self, served: Served) -> Served | None:
        """Makes `served` the one of its version; returns the one that was."""
        old = self.served.get(served.version)
        versions = {**self.served, served.version: served}
        self.served = {v: versions[v] for v in sorted(versions, key=version_key)}
        return old

    def entries(self) -> list[IndexEntry]:
        """Returns the lines of the index: what serves, what failed, or the model alone."""
        whole = self.failures.get("", "")
        lines = [
            IndexEntry(self.name, version, State.READY, self.failures.get(version, whole))
            for version in self.served
        ]
        state = self.transition or State.UNAVAILABLE
        failed = [v for v in self.failures if v not in self.served and (v or not self.served)]
        lines += [IndexEntry(self.name, v, state, self.failures[v]) for v in failed]
        return lines or [IndexEntry(self.name, "", state)]


class Repository:
    """The models of a folder; an async context manager. Belongs to one event loop."""

    can_load = True

    def __init__(
        self, root: Path, observe: Observer = _nobody, *, allows_code: bool = False
    ) -> None:
        """`allows_code`: whether Python files of the folder may be run, to make their engines."""
        self._root = root
        self._observe = observe
        self._allows_code = allows_code
        self._slots: dict[str, _Slot] = {}
        self._tasks: set[asyncio.Task[None]] = set()
        self._turn = asyncio.Semaphore(max(1, int(available_cpus())))

    async def __aenter__(self) -> "Repository":
        """Loads all models; one that fails is told in the log and in the index.

        Raises `ArtifactError` when there is no such folder.
        """
        if not self._root.is_dir():
            raise ArtifactError(f"no model repository {self._root}")
        names = await asyncio.to_thread(versions_on_disk, self._root)
        await asyncio.gather(*(self._own(self._load(n)) for n in names), return_exceptions=True)
        await self._observe("", self.is_ready())
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        await self._idle()  # what still loads would else be left open
        for slot in self._slots.values():
            for served in slot.served.values():
                self._own(served.close())
            slot.served = {}
        await self._idle()

    def is_ready(self) -> bool:
        """Whether every model that should serve does, in some version."""
        return all(slot.served for slot in self._slots.values() if slot.is_wanted)

    def find(self, name: str, version: str = "") -> Served:
        """Returns a version, the highest for ""; see `Models`."""
        slot = self._slots.get(name)
        if slot and not slot.served:
            raise NotReadyError(f"{slot.transition.lower() or 'not serving'} {name}")
        known = {slot.name: slot.served} if slot else {n: s.served for n, s in self._slots.items()}
        return pick(name, version, known)

    def serving(self) -> Sequence[Served]:
        """Returns all versions that serve, by name and ascending version."""
        return [
            served for _, slot in sorted(self._slots.items()) for served in slot.served.values()
        ]

    async def index(self) -> Sequence[IndexEntry]:
        """Returns a line for each version that serves or failed to, and for what lies there."""
        on_disk = await asyncio.to_thread(versions_on_disk, self._root)
        lines = [line for slot in self._slots.values() for line in slot.entries()]
        lines += [
            IndexEntry(name, "", State.UNAVAILABLE, "not loaded")
            for name in on_disk
            if name not in self._slots
        ]
        return sorted(lines, key=lambda line: (line.name, version_key(line.version)))

    async def load(self, name: str) -> None:
        """Makes what serves equal to what the folder holds; what has not changed is kept.

        Goes on when the caller is cancelled. Raises `NotFoundError`, `ModelLoadError`.
        """
        if name not in self._slots:
            on_disk = await asyncio.to_thread(versions_on_disk, self._root)
            if name not in on_disk:
                raise NotFoundError("model", name, sorted({*on_disk, *self._slots}))
        await asyncio.shield(self._own(self._load(name)))

    async def unload(self, name: str) -> None:
        """Stops a model; returns when its calls are answered. Raises `NotFoundError`."""
        slot = self._slots.get(name)
        if slot is None:
            raise NotFoundError("model", name, sorted(self._slots))
        await asyncio.shield(self._own(self._unload(slot)))

    async def _load(self, name: str) -> None:
        slot = self._slots.setdefault(name, _Slot(name))
        async with slot.lock:
            slot.transition, slot.is_wanted = State.LOADING, True
            try:
                failures = await self._bring_up(slot)
            finally:
                slot.transition = ""
            slot.failures = {version: self._shown(e) for version, e in failures.items()}
            if failures and all(isinstance(e, NoEngineError) for e in failures.values()):
                slot.is_wanted = bool(slot.served)
            await self._tell(slot)
        if slot.failures:
            reasons = [f"{v}: {r}" if v else r for v, r in slot.failures.items()]
            level = logging.ERROR if slot.is_wanted else logging.INFO
            log.log(level, "%s does not load: %s", name, "; ".join(reasons))
            raise ModelLoadError(name, "; ".join(reasons))

    async def _bring_up(self, slot: _Slot) -> dict[str, ArtifactError]:
        """Loads the versions wanted and drops the others; returns what failed, and drops none."""
        try:
            options, versions = await asyncio.to_thread(self._plan, slot.name)
        except ArtifactError as error:
            return {"": error}
        failures = {}
        for version in versions:
            try:
                await self._bring_up_version(slot, version, options)
            except ArtifactError as error:
                failures[version] = error
        if not failures:
            for version in [v for v in slot.served if v not in versions]:
                self._own(slot.served.pop(version).close())
        return failures

    def _plan(self, name: str) -> tuple[ModelOptions, tuple[str, ...]]:
        available = versions_on_disk(self._root).get(name, ())
        if not available:
            *first, last = (kind.file for kind in FORMATS)
            known = f"{', '.join(first)} or {last}"
            raise ArtifactError(f"{name} has no folder of a version with {known}")
        options = ModelOptions.read(self._root / name / OPTIONS_FILE)
        return options, options.versions.choose(available)

    async def _bring_up_version(self, slot: _Slot, version: str, options: ModelOptions) -> None:
        async with self._turn:
            verified = await asyncio.to_thread(_verify, self._root, slot.name, version)
            current = slot.served.get(version)
            if current and current.model.ref == verified.ref and current.options == options:
                return
            if verified.format.is_code and not self._allows_code:
                raise ArtifactError(_NOT_ALLOWED.format(verified.path.name))
            fresh = await _open(verified, options)
        if old := slot.put(fresh):
            self._own(old.close())

    async def _unload(self, slot: _Slot) -> None:
        async with slot.lock:
            leaving, slot.served, slot.is_wanted = slot.served, {}, False
            slot.transition, slot.failures = State.UNLOADING, {}
            await self._tell(slot)
            await asyncio.gather(*(self._own(served.close()) for served in leaving.values()))
            slot.transition, slot.failures = "", {"": "unloaded"}

    async def _tell(self, slot: _Slot) -> None:
        await self._observe(slot.name, bool(slot.served))
        await self._observe("", self.is_ready())

    def _own(self, work: Coroutine[Any, Any, None]) -> "asyncio.Task[None]":
        """Starts work that outlives its caller; `__aexit__` awaits it."""
        task = asyncio.get_running_loop().create_task(work)
        self._tasks.add(task)
        task.add_done_callback(self._done)
        return task

    async def _idle(self) -> None:
        while self._tasks:
            await asyncio.wait(self._tasks)

    def _done(self, task: "asyncio.Task[None]") -> None:
        self._tasks.discard(task)
        error = None if task.cancelled() else task.exception()
        if error and not isinstance(error, ModelLoadError):  # that one was told
            log.error("model repository", exc_info=error)

    def _shown(self, error: ArtifactError) -> str:
        """Returns a reason without the path of the repository: it reaches callers."""
        return str(error).replace(f"{self._root}/", "")


def _verify(root: Path, name: str, version: str) -> Verified:
    try:
        return verify(root, name, version)
    except ArtifactError:
        raise
    except OSError as error:  # changed under our eyes
        raise ArtifactError(f"{name}/{version} cannot be read: {error.strerror}") from error


async def _open(verified: Verified, options: ModelOptions) -> Served:
    """Loads and warms a version; leaves nothing behind when it fails."""
    model = await asyncio.to_thread(load, verified, options)
    try:
        await model.__aenter__()
    except Exception as error:  # the boundary to the engine: told to who loads
        await model.__aexit__(None, None, None)
        raise ArtifactError(f"fails its warm-up: {error}") from error
    ref = verified.ref
    return Served(ref.model, ref.version, model, options, verified.format)
