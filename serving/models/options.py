"""`<model>/model.yaml`: how a model of a repository is served. Every key has a default.

batching: {max_batch_rows: 32, max_queue_rows: 512}   # max_batch_rows 1 turns batching off
instances: 1                                          # engines that run side by side
threads: 1                                            # of each engine
device: cpu                                           # or cuda
engine: onnx                                          # or openvino, or auto: measured at load
versions: {latest: 1}                                 # or `all`, or a list: ["1", "3"]
warm_up: [{ids: [-1, 16], mask: [-1, 16]}]            # shapes of all inputs; -1 first = rows
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, fields
from pathlib import Path
from typing import Any

import yaml

from serving.models.manifest import ArtifactError
from serving.models.warm_up import Shapes
from serving.scheduling.scheduler import BatchingConfig

OPTIONS_FILE = "model.yaml"
_DEVICES = ("cpu", "cuda")
_ENGINES = ("onnx", "openvino", "auto")
_LIMITS = ("max_batch_rows", "max_queue_rows")


@dataclass(frozen=True, slots=True)
class VersionPolicy:
    """Which of a model's versions are loaded: the named ones, else the highest `latest`."""

    latest: int | None = 1  # >= 1; None: all
    named: tuple[str, ...] = ()

    def choose(self, available: Sequence[str]) -> tuple[str, ...]:
        """Returns the chosen of `available`, which ascends. Raises `ArtifactError` for a gap."""
        if missing := [version for version in self.named if version not in available]:
            raise ArtifactError(
                f"version {', '.join(missing)} of {OPTIONS_FILE} is not there, "
                f"only {', '.join(available) or 'none'}"
            )
        if self.named:
            return tuple(version for version in available if version in self.named)
        return tuple(available if self.latest is None else available[-self.latest :])


@dataclass(frozen=True, slots=True)
class ModelOptions:
    """What `model.yaml` says, or its defaults."""

    batching: BatchingConfig | None = None  # None: as the manifest says, else the defaults
    instances: int = 1  # >= 1
    threads: int = 1  # >= 1
    device: str = "cpu"  # or "cuda"
    engine: str = "onnx"  # or "openvino"; "auto": the fastest that is exact enough here
    versions: VersionPolicy = field(default_factory=VersionPolicy, compare=False)
    warm_up: tuple[Shapes, ...] | None = None  # None: guessed; empty: none

    def __post_init__(self) -> None:
        for name in ("instances", "threads"):
            _check_count(name, getattr(self, name))
        if self.device not in _DEVICES:
            raise ArtifactError(f"device is {self.device!r}, expected {' or '.join(_DEVICES)}")
        if self.engine not in _ENGINES:
            raise ArtifactError(f"engine is {self.engine!r}, expected {' or '.join(_ENGINES)}")

    @classmethod
    def read(cls, path: Path) -> "ModelOptions":
        """Reads the file; defaults when there is none. Raises `ArtifactError` naming the key."""
        try:
            document = yaml.safe_load(path.read_text(encoding="utf-8")) or {}
        except FileNotFoundError:
            return cls()
        except (yaml.YAMLError, UnicodeDecodeError, OSError) as error:
            raise ArtifactError(
                f"{path.parent.name}/{path.name} cannot be read: {error}"
            ) from error
        try:
            return _options(document)
        except (ArtifactError, ValueError, TypeError) as error:
            raise ArtifactError(f"{path.parent.name}/{path.name}: {error}") from error


def _options(document: object) -> ModelOptions:
    values = dict(_mapping("the file", document, [f.name for f in fields(ModelOptions)]))
    if "batching" in values:
        limits = _mapping("batching", values["batching"], _LIMITS)
        for name, value in limits.items():
            _check_count(f"batching.{name}", value)
        values["batching"] = BatchingConfig(**limits)
    if "versions" in values:
        values["versions"] = _policy(values["versions"])
    if "warm_up" in values:
        values["warm_up"] = tuple(_shapes(entry) for entry in _list("warm_up", values["warm_up"]))
    return ModelOptions(**values)


def _policy(value: object) -> VersionPolicy:
    if value == "all":
        return VersionPolicy(latest=None)
    if isinstance(value, list) and value:
        return VersionPolicy(named=tuple(str(version) for version in value))
    if isinstance(value, dict) and set(value) == {"latest"}:
        return VersionPolicy(latest=_check_count("versions.latest", value["latest"]))
    raise ArtifactError(f"versions is {value!r}, expected all, {{latest: 2}} or a list of versions")


def _shapes(entry: object) -> Shapes:
    if not isinstance(entry, dict):
        raise ArtifactError(f"warm_up holds {entry!r}, expected a shape for each input")
    return {str(name): _shape(str(name), shape) for name, shape in entry.items()}


def _shape(name: str, value: object) -> tuple[int, ...]:
    sizes = _list(f"warm_up.{name}", value)
    for index, size in enumerate(sizes):
        if type(size) is not int or size < (-1 if index == 0 else 0):
            raise ArtifactError(f"warm_up.{name} is {sizes}, expected sizes; -1 only first")
    return tuple(sizes)


def _mapping(label: str, value: object, known: Sequence[str]) -> Mapping[str, Any]:
    if not isinstance(value, dict):
        raise ArtifactError(f"{label} is {value!r}, expected keys and values")
    if unknown := [str(key) for key in value if key not in known]:
        raise ArtifactError(
            f"{label} has unknown key {', '.join(unknown)}; known: {', '.join(known)}"
        )
    return value


def _list(label: str, value: object) -> list[Any]:
    if not isinstance(value, list):
        raise ArtifactError(f"{label} is {value!r}, expected a list")
    return value


def _check_count(label: str, value: object) -> int:
    if type(value) is not int or value < 1:
        raise ArtifactError(f"{label} is {value!r}, expected a whole number from 1")
    return value
