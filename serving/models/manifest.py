"""Manifests: what a file of weights is and where it came from.

A manifest is a YAML file, `services/<service>/manifests/<name>.yaml`, that names an artifact's
sources with their SHA-256, the SHA-256 of the result, licence, tensors, preprocessing and measured
metric. Unknown and missing fields are refused, so a typing error cannot pass for a default.
"""

import re
from collections.abc import Mapping
from dataclasses import MISSING, dataclass, fields
from pathlib import Path
from typing import Any, Self, TypeVar, cast

import yaml

Scalar = str | int | float | bool
PACKAGES = ("wheel", "npm")  # kinds of sources that a registry has
_SHA256 = re.compile(r"[0-9a-f]{64}")
PLAIN_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]*")  # one path component, never ".." or hidden
_Record = TypeVar("_Record")


class ArtifactError(OSError):
    """An artifact is missing, malformed or not the file its manifest promises."""


class UnavailableError(ArtifactError):
    """A package cannot be had now: no client, no network, or gone from its registry."""


@dataclass(frozen=True, slots=True)
class Source:
    """One file an artifact is made from."""

    kind: str  # of PACKAGES: inside one; "trained-here": committed; "given": an operator's
    file: str  # path inside the package or from the repository's root; "given": its name
    sha256: str  # of that file, 64 hex digits
    package: str = ""  # name in the registry; of packages only
    package_version: str = ""  # exact; of packages only
    package_sha256: str = ""  # of the package; empty where wheels differ by platform
    command: str = ""  # reproduces the file; trained-here only

    def __post_init__(self) -> None:
        if self.kind not in (*PACKAGES, "trained-here", "given"):
            known = ", ".join(PACKAGES)
            raise ArtifactError(
                f"source kind is {self.kind!r}, expected {known}, trained-here or given"
            )
        if self.kind in PACKAGES and not (self.package and self.package_version):
            raise ArtifactError(f"source {self.file} needs package and package_version")
        if self.kind == "trained-here" and not self.command:
            raise ArtifactError(f"source {self.file} needs the command that reproduces it")
        _check_sha256(f"sha256 of source {self.file}", self.sha256)
        if self.package_sha256:
            _check_sha256(f"package_sha256 of {self.package}", self.package_sha256)

    @property
    def origin(self) -> str:
        """Says where the file comes from, for people: `imgaug 0.4.0`, `trained here`."""
        if self.package:
            return f"{self.package} {self.package_version}"
        return "trained here" if self.kind == "trained-here" else f"given: {self.file}"


@dataclass(frozen=True, slots=True)
class Tensor:
    """One input or output of a model, as its manifest promises it."""

    name: str
    dtype: str  # NumPy's name: "uint8", "float32"
    shape: tuple[int, ...]  # -1 = any size; the first dimension is the batch


@dataclass(frozen=True, slots=True)
class Manifest:
    """What is known about one artifact. `source` in the YAML is one source or a list of them."""

    name: str
    version: str
    file: str  # name of the artifact's file in the repository
    sha256: str  # of that file
    sources: tuple[Source, ...]
    license: str
    trained_on: str  # "ImageNet-1k", "simulator", "none"
    metric: str  # what was measured, on what, and what was not
    experimental: bool = False  # a heuristic, or a metric not measured on real data
    inputs: tuple[Tensor, ...] = ()
    outputs: tuple[Tensor, ...] = ()
    preprocessing: Mapping[str, Scalar] | None = None
    tolerance: float = 0.0  # largest difference to the reference, and of a row to its batch mates
    max_batch_rows: int = 1  # rows beyond which a batch gains nothing
    optional: bool = False  # the service starts without it and says what it then cannot do

    def __post_init__(self) -> None:
        for field, value in (("name", self.name), ("version", self.version), ("file", self.file)):
            if not isinstance(value, str) or not PLAIN_NAME.fullmatch(value):
                raise ArtifactError(f"{field} is {value!r}, expected letters, digits and . _ -")
        _check_sha256(f"sha256 of {self.name}", self.sha256)
        if not self.sources:
            raise ArtifactError(f"{self.name} names no source")

    @property
    def source(self) -> Source:
        """The first source, and of most artifacts the only one."""
        return self.sources[0]

    @classmethod
    def read(cls, path: Path) -> Self:
        """Reads and checks a manifest file. Raises `ArtifactError` naming file and field."""
        try:
            document = yaml.safe_load(path.read_text(encoding="utf-8"))
            if not isinstance(document, dict):
                raise ArtifactError(f"holds {type(document).__name__}, expected a mapping")
            return cls(**_manifest_fields(document))
        except FileNotFoundError as error:
            raise ArtifactError(f"{path} is missing") from error
        except (yaml.YAMLError, ArtifactError, TypeError, ValueError) as error:
            raise ArtifactError(f"{path}: {error}") from error


def _check_sha256(label: str, value: object) -> None:
    if not isinstance(value, str) or not _SHA256.fullmatch(value):
        raise ArtifactError(f"{label} is {value!r}, expected 64 lower-case hex digits")


def _manifest_fields(document: dict[str, Any]) -> dict[str, Any]:
    values = dict(document)
    source = values.pop("source", [])
    sources = source if isinstance(source, list) else [source]
    values["sources"] = tuple(_record(Source, entry) for entry in sources)
    for key in ("inputs", "outputs"):
        values[key] = tuple(_record(Tensor, entry) for entry in values.get(key, []))
    _check_keys(Manifest, values)
    return values


def _record(kind: type[_Record], entry: object) -> _Record:
    values = cast("dict[str, Any]", entry) if isinstance(entry, dict) else {}
    if "shape" in values:
        values = {**values, "shape": tuple(values["shape"])}
    _check_keys(kind, values)
    return kind(**values)


def _check_keys(kind: type, values: Mapping[str, object]) -> None:
    known = {field.name: field for field in fields(kind)}
    unknown = sorted(set(values) - set(known))
    missing = sorted(
        name for name, field in known.items() if field.default is MISSING and name not in values
    )
    if unknown or missing:
        where = kind.__name__.lower()
        raise ArtifactError(f"{where} has unknown fields {unknown} and lacks {missing}")
