"""The edges of a graph, compiled: how the values of one message come to be in another.

A wire copies one source into one field. It is silent when the source is absent: its node was
skipped, failed without a substitute, or was substituted by one that does not state the field.
"""

from collections.abc import Callable, Collection, Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from google.protobuf.descriptor import Descriptor
from google.protobuf.message import Message

from services.gateway.fields import (
    ABSENT,
    Getter,
    Setter,
    compile_getter,
    compile_setter,
    field_type,
)
from services.gateway.sources import (
    REQUEST,
    Constant,
    FieldSource,
    Path,
    Source,
    parse_path,
    parse_sources,
)

Answers = Mapping[str, Message]  # "request", and each node that answered or was substituted
States = Callable[[str, Path], bool]  # whether a node's substitute states a field


@dataclass(frozen=True, slots=True)
class Wire:
    """From one source to one field."""

    target: Path
    source: FieldSource | None  # None: a constant
    origin: str  # whose message `get` reads; of a constant the request, which is always there
    get: Getter
    put: Setter
    survives: bool  # also there when the origin is substituted


def compile_wires(
    sources: Mapping[str, str],
    target: Descriptor,
    origins: Mapping[str, Descriptor],
    states: States,
) -> tuple[Wire, ...]:
    """Compiles the mapping target field -> source of a checked graph, constants last.

    A constant that goes into each element of a list must find the elements there.
    """
    wires = [
        wire
        for name, text in sources.items()
        for wire in _compile_field(parse_path(name), parse_sources(text), target, origins, states)
    ]
    return tuple(sorted(wires, key=lambda wire: wire.source is None))


def _compile_field(
    path: Path,
    sources: tuple[Source, ...],
    target: Descriptor,
    origins: Mapping[str, Descriptor],
    states: States,
) -> Iterator[Wire]:
    put = compile_setter(target, path)
    is_list = path.repeated_at < 0 and field_type(target, path).is_repeated
    for source in sources:
        if isinstance(source, Constant):
            get = _constant([source.value] if is_list else source.value)
            yield Wire(path, None, REQUEST, get, put, survives=True)
            continue
        message = origins[source.origin]
        get = compile_getter(message, source.path)
        if is_list and not field_type(message, source.path).is_repeated:
            get = _as_list(get)
        survives = source.origin == REQUEST or states(source.origin, source.path)
        yield Wire(path, source, source.origin, get, put, survives)


def fill(
    message: Message, wires: tuple[Wire, ...], answers: Answers, substituted: Collection[str]
) -> None:
    """Carries what is there into `message`. Runs for every call."""
    for wire in wires:
        origin = answers.get(wire.origin)
        if origin is None or (not wire.survives and wire.origin in substituted):
            continue
        value = wire.get(origin)
        if value is not ABSENT:
            wire.put(message, value)


def _constant(value: object) -> Getter:
    return lambda source: value


def _as_list(get: Getter) -> Getter:
    """One value as a list of one; of none, when it is absent or empty."""

    def get_list(source: Message) -> Any:
        value = get(source)
        return [value] if value is not ABSENT and value else []

    return get_list
