"""Configuration: frozen dataclasses filled from `FOMOFEED_<SERVICE>_<FIELD>` variables.

An unknown variable of the service stops the start, so that a typing error is never a default.
Each component checks its own ranges in `__post_init__`.
"""

import os
import types
from collections.abc import Mapping
from dataclasses import MISSING, Field, fields
from pathlib import Path
from typing import Any, Union, get_args, get_origin, get_type_hints

PREFIX = "FOMOFEED"


class SettingsError(ValueError):
    """A setting is unknown, unreadable or out of range; the message names the variable."""


def load(
    service: str, *components: type[Any], environ: Mapping[str, str] | None = None
) -> tuple[Any, ...]:
    """Returns one instance of each of `components` for `service`, filled from the environment.

    Raises `SettingsError` for an unknown variable, one that cannot be read as its field's type,
    a missing required one, or a value that a component refuses.
    """
    environ = os.environ if environ is None else environ
    prefix = f"{PREFIX}_{service.upper()}_"
    given = {key: value for key, value in environ.items() if key.startswith(prefix)}
    known = {prefix + name.upper() for component in components for name in _names(component)}
    unknown = sorted(set(given) - known)
    if unknown:
        raise SettingsError(
            f"unknown setting {', '.join(unknown)}; known: {', '.join(sorted(known))}"
        )
    return tuple(_fill(component, prefix, given) for component in components)


def _names(component: type[Any]) -> list[str]:
    return [field.name for field in fields(component) if field.init]


def _fill(component: type[Any], prefix: str, given: Mapping[str, str]) -> Any:
    hints = get_type_hints(component)
    values = {}
    for field in fields(component):
        variable = prefix + field.name.upper()
        if variable in given:
            values[field.name] = _read(variable, given[variable], hints[field.name])
        elif field.init and _is_required(field):
            raise SettingsError(f"{variable} must be set")
    try:
        return component(**values)
    except ValueError as error:
        raise SettingsError(f"{prefix}*: {error}") from error


def _is_required(field: Field[Any]) -> bool:
    return field.default is MISSING and field.default_factory is MISSING


def _read(variable: str, text: str, hint: Any) -> Any:
    try:
        return _parse(text, hint)
    except ValueError:
        name = getattr(hint, "__name__", str(hint))
        raise SettingsError(f"{variable} is {text!r}, expected {name}") from None


def _parse(text: str, hint: Any) -> Any:
    if get_origin(hint) in (Union, types.UnionType):
        inner = next(option for option in get_args(hint) if option is not type(None))
        return None if text == "" else _parse(text, inner)
    if get_origin(hint) is tuple:
        return tuple(_parse(part.strip(), get_args(hint)[0]) for part in text.split(",") if part)
    if hint is bool:
        return _boolean(text)
    if hint in (int, float, str, Path):
        return hint(text)
    raise TypeError(f"settings cannot hold a {hint}")


def _boolean(text: str) -> bool:
    values = {"true": True, "1": True, "yes": True, "false": False, "0": False, "no": False}
    if text.lower() not in values:
        raise ValueError(text)
    return values[text.lower()]
