"""Checks of what a YAML file holds: each names the key, what stands there, and what may."""

from collections.abc import Mapping, Sequence
from typing import Any

from serving.models.manifest import ArtifactError


def mapping(label: str, value: object, known: Sequence[str]) -> Mapping[str, Any]:
    """Returns a mapping that has no other keys than `known`."""
    if not isinstance(value, dict):
        raise ArtifactError(f"{label} is {value!r}, expected keys and values")
    if unknown := [str(key) for key in value if key not in known]:
        raise ArtifactError(
            f"{label} has unknown key {', '.join(unknown)}; known: {', '.join(known)}"
        )
    return value


def sequence(label: str, value: object) -> list[Any]:
    """Returns a list."""
    if not isinstance(value, list):
        raise ArtifactError(f"{label} is {value!r}, expected a list")
    return value


def count(label: str, value: object) -> int:
    """Returns a whole number from 1."""
    if type(value) is not int or value < 1:
        raise ArtifactError(f"{label} is {value!r}, expected a whole number from 1")
    return value


def number(label: str, value: object) -> float:
    """Returns a number above 0."""
    if type(value) not in (int, float) or not value > 0:  # type: ignore[operator]  # is a number
        raise ArtifactError(f"{label} is {value!r}, expected a number above 0")
    return float(value)  # type: ignore[arg-type]  # is a number


def name(label: str, value: object) -> str:
    """Returns a text that is not empty."""
    if not isinstance(value, str) or not value:
        raise ArtifactError(f"{label} is {value!r}, expected a name")
    return value


def sizes(label: str, value: object) -> tuple[int, ...]:
    """Returns a shape whose first size may be -1."""
    found = sequence(label, value)
    for index, size in enumerate(found):
        if type(size) is not int or size < (-1 if index == 0 else 0):
            raise ArtifactError(f"{label} is {found}, expected sizes; -1 only first")
    return tuple(found)
