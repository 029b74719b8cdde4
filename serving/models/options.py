"""`<model>/model.yaml`: how a model of a repository is served. Every key has a default.

batching: {max_batch_rows: 32, max_queue_rows: 512}   # max_batch_rows 1 turns batching off
instances: 1                                          # engines that run side by side
threads: 1                                            # of each engine
device: cpu                                           # or cuda
engine: onnx                                          # or torch, openvino, auto: measured at load
precision: f32                                        # or bf16: openvino and torch
tolerance: 0.01                                       # of auto and of bf16, absolute
versions: {latest: 1}                                 # or `all`, or a list: ["1", "3"]
warm_up: [{ids: [-1, 16], mask: [-1, 16]}]            # shapes of all inputs; -1 first = rows

`batching`, `padding`, `ragged`, and the `inputs` and `outputs` of files that name none, have more
to them: `option_parts`.
"""

from collections.abc import Sequence
from dataclasses import dataclass, field, fields
from pathlib import Path
from typing import Any

import yaml

from serving.engines.engine import TensorSpec
from serving.engines.ragged import Ragged
from serving.models import option_parts as parts
from serving.models import yaml_values as check
from serving.models.manifest import ArtifactError
from serving.models.padding import Padding
from serving.models.warm_up import Shapes
from serving.scheduling.scheduler import BatchingConfig

OPTIONS_FILE = "model.yaml"
_CHOICES = {
    "device": ("cpu", "cuda"),
    "engine": ("onnx", "openvino", "torch", "auto"),
    "precision": ("f32", "bf16"),
}


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
    engine: str = ""  # of `formats` or "openvino"; empty: the file's own; "auto": measured
    precision: str = "f32"  # or "bf16"
    tolerance: float | None = None  # > 0; None: the manifest's, else that of `engines`
    versions: VersionPolicy = field(default_factory=VersionPolicy, compare=False)
    warm_up: tuple[Shapes, ...] | None = None  # None: guessed; empty: none
    inputs: tuple[TensorSpec, ...] = ()  # of a file that names none, or new names for an export's
    outputs: tuple[TensorSpec, ...] = ()
    allowed_rows: tuple[int, ...] = ()  # numbers of rows that reach the engine; empty: any
    cost_of: str = ""  # input whose elements are the cost of a row; empty: rows cost nothing
    padding: Padding | None = None
    ragged: Ragged | None = None

    def __post_init__(self) -> None:
        for name in ("instances", "threads"):
            check.count(name, getattr(self, name))
        for name, known in _CHOICES.items():
            value = getattr(self, name)
            if value not in known and (name != "engine" or value):
                raise ArtifactError(f"{name} is {value!r}, expected {' or '.join(known)}")
        if self.precision == "bf16" and self.engine == "onnx":
            raise ArtifactError("engine onnx has no precision bf16; openvino and torch have")
        if self.ragged and (self.padding or self.allowed_rows or self.cost_of):
            raise ArtifactError("ragged leaves nothing to padding, allowed_rows and cost_of")

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
    inside = ("allowed_rows", "cost_of")  # keys of `batching`
    keys = [f.name for f in fields(ModelOptions) if f.name not in inside]
    values: dict[str, Any] = dict(check.mapping("the file", document, keys))
    if "batching" in values:
        values |= parts.batching(values["batching"])
    if "versions" in values:
        values["versions"] = _policy(values["versions"])
    if "warm_up" in values:
        values["warm_up"] = parts.warm_up(values["warm_up"])
    if "padding" in values:
        values["padding"] = parts.padding(values["padding"])
    if "ragged" in values:
        values["ragged"] = parts.ragged(values["ragged"])
    if values.get("tolerance") is not None:
        values["tolerance"] = check.number("tolerance", values["tolerance"])
    for name in ("inputs", "outputs"):
        if name in values:
            values[name] = parts.tensors(name, values[name])
    return ModelOptions(**values)


def _policy(value: object) -> VersionPolicy:
    if value == "all":
        return VersionPolicy(latest=None)
    if isinstance(value, list) and value:
        return VersionPolicy(named=tuple(str(version) for version in value))
    if isinstance(value, dict) and set(value) == {"latest"}:
        return VersionPolicy(latest=check.count("versions.latest", value["latest"]))
    raise ArtifactError(f"versions is {value!r}, expected all, {{latest: 2}} or a list of versions")
