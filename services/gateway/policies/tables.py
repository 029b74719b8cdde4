"""Substitute tables: small fitted rules, written by training as YAML, read when a graph is loaded.

A table maps fields of the node's response, by dotted path, to how they are computed from the
node's request as the survivors have filled it:

    reach.unit: accounts                            a constant (an enum's value by its name)
    engagement_score:                               a linear rule, clipped to [min, max]
      intercept: 41.5
      terms: [{source_field: follower_count, transform: log1p, mean: 5.2, coefficient: 3.1}]
      min: 0
      max: 100
    optimal_hour_of_week:                           the best cell of a rate shrunk to a prior:
      peak: {counts: engagements_by_hour, exposure: posts_by_hour,    argmax of
             prior_rate: [...], prior_exposure: 5}  (counts + prior) / (exposure + prior_exposure)
    optimal_hour: {peak: {...}, modulo: 24}         the same, of day
    notification:                                   text with fields of the request: the first of
      template: ["{user_name}, {optimal_hour:02d}:00", "Done"]      those whose fields are all there

A term is coefficient * (transform(x) - mean); one whose field is absent adds nothing.
"""

import math
import string
from collections.abc import Callable, Mapping
from pathlib import Path as FilePath
from typing import Any

import numpy as np
import yaml
from google.protobuf.descriptor import Descriptor
from google.protobuf.message import Message

from services.gateway.fields import (
    ABSENT,
    FieldPathError,
    FieldType,
    Getter,
    compile_getter,
    field_type,
)
from services.gateway.sources import SourceError, parse_path

Rule = Callable[[Message], Any]  # from the node's request to the value of one response field
Table = Mapping[str, object]

TRANSFORMS: Mapping[str, Callable[[float], float]] = {
    "identity": lambda x: x,
    "log1p": lambda x: math.log1p(max(x, 0.0)),
    "known": lambda x: 1.0,  # whatever it is: absent fields add nothing
}
_NUMBERS = ("double", "float", "int64", "int32")
_PYTHON = {"double": (int, float), "float": (int, float), "int64": int, "int32": int}


class TableError(ValueError):
    """A table cannot be used as its node's substitute; the message names file, field and fault."""


def read_table(path: FilePath) -> Table:
    """Reads a table; raises `TableError` when there is none or it is no mapping."""
    try:
        table = yaml.safe_load(path.read_text(encoding="utf-8"))
    except (OSError, yaml.YAMLError) as error:
        raise TableError(f"table {path.name} cannot be read") from error
    if not isinstance(table, dict):
        raise TableError(f"table {path.name} is no mapping of response fields")
    return table


def compile_rule(entry: object, target: FieldType, request: Descriptor) -> Rule:
    """Returns the rule that `entry` describes; raises `TableError` when it does not fit."""
    if not isinstance(entry, dict):
        return _constant(entry, target)
    for key, compile_kind in _RULES.items():
        if key in entry:
            return compile_kind(entry, target, request)
    raise TableError(f"no rule among {', '.join(entry)}; known: {', '.join(_RULES)}")


def _constant(value: object, target: FieldType) -> Rule:
    items = value if target.is_repeated and isinstance(value, list) else [value]
    enum = target.leaf.enum_type
    if enum is not None:
        by_name = enum.values_by_name
        _require(all(item in by_name for item in items), f"{value} is no {enum.full_name}")
        items = [by_name[str(item)].number for item in items]
    else:
        python = _PYTHON.get(target.kind, {"string": str, "bool": bool}.get(target.kind, ()))
        fits = all(isinstance(item, python) for item in items)  # type: ignore[arg-type]  # a tuple too
        _require(fits, f"{value!r} is no {target}")
    constant = items if target.is_repeated else items[0]
    return lambda request: constant


def _linear(entry: dict[str, Any], target: FieldType, request: Descriptor) -> Rule:
    _require(target.kind in ("double", "float"), f"a linear rule cannot fill a {target}")
    intercept = float(entry["intercept"])
    low, high = float(entry.get("min", -math.inf)), float(entry.get("max", math.inf))
    terms = [_term(term, request) for term in entry.get("terms", ())]

    def rule(message: Message) -> float:
        return min(max(intercept + sum(term(message) for term in terms), low), high)

    return rule


def _term(term: dict[str, Any], request: Descriptor) -> Callable[[Message], float]:
    name = str(term.get("transform", "identity"))
    _require(name in TRANSFORMS, f"unknown transform {name!r}; known: {', '.join(TRANSFORMS)}")
    transform = TRANSFORMS[name]
    get = _number(str(term.get("source_field")), request)
    mean, coefficient = float(term["mean"]), float(term["coefficient"])

    def value(message: Message) -> float:
        x = get(message)
        return 0.0 if x is ABSENT else coefficient * (transform(float(x)) - mean)

    return value


def _number(path: str, request: Descriptor) -> Getter:
    kind, get = _field(path, request)
    usable = kind.kind in (*_NUMBERS, "bool") and not kind.is_repeated
    _require(usable, f"{path} is a {kind}, no number")
    return get


def _field(path: str, request: Descriptor) -> tuple[FieldType, Getter]:
    try:
        parsed = parse_path(path)
        return field_type(request, parsed), compile_getter(request, parsed)
    except FieldPathError as error:
        raise TableError(f"{error.args[0]}: {error.remedy}") from error
    except SourceError as error:
        raise TableError(str(error)) from error


def _peak(entry: dict[str, Any], target: FieldType, request: Descriptor) -> Rule:
    peak, modulo = entry["peak"], int(entry.get("modulo", 0))
    _require(target.kind in ("int32", "int64"), f"a peak cannot fill a {target}")
    (_, counts), (_, exposure) = (_field(str(peak[key]), request) for key in ("counts", "exposure"))
    prior_rate = np.asarray(peak["prior_rate"], dtype=np.float64)
    weight = float(peak["prior_exposure"])
    _require(prior_rate.ndim == 1 and weight > 0, "prior_rate is a list, prior_exposure > 0")

    def rule(message: Message) -> int:
        seen, shown = np.array(counts(message)), np.array(exposure(message))
        rate = prior_rate
        if len(seen) == len(shown) == len(prior_rate):
            rate = (seen + weight * prior_rate) / (shown + weight)
        best = int(np.argmax(rate))
        return best % modulo if modulo else best

    return rule


def _template(entry: dict[str, Any], target: FieldType, request: Descriptor) -> Rule:
    _require(target.kind == "string", f"a template cannot fill a {target}")
    given = entry["template"]
    texts = [_text(str(text), request) for text in (given if isinstance(given, list) else [given])]

    def rule(message: Message) -> Any:
        return next((shown for text in texts if (shown := text(message)) is not ABSENT), ABSENT)

    return rule


def _text(text: str, request: Descriptor) -> Rule:
    """Returns a rule that fills the fields into `text`, `ABSENT` when one of them is."""
    parts = [
        (literal, _field(name, request)[1] if name else None, spec or "")
        for literal, name, spec, _ in string.Formatter().parse(text)
    ]

    def rule(message: Message) -> Any:
        shown = ""
        for literal, get, spec in parts:
            value = "" if get is None else get(message)
            if value is ABSENT or (value == "" and get is not None):
                return ABSENT
            shown += literal + format(value, spec)
        return shown

    return rule


_RULES: Mapping[str, Callable[[dict[str, Any], FieldType, Descriptor], Rule]] = {
    "intercept": _linear,
    "peak": _peak,
    "template": _template,
}


def _require(holds: bool, fault: str) -> None:
    if not holds:
        raise TableError(fault)
