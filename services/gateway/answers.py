"""Whether a node's answer is sound: numbers finite, and what the graph file expects of it.

Compiled once for each node; a check of an answer walks only over fields that hold numbers.
"""

import math
from collections.abc import Callable, Iterator, Mapping, Sized

from google.protobuf.descriptor import Descriptor, FieldDescriptor
from google.protobuf.message import Message

from fomofeed.gateway.v1 import orchestrator_service_pb2 as pb
from services.gateway.descriptors import is_map, message_of
from services.gateway.fields import ABSENT, compile_getter, field_type
from services.gateway.sources import parse_path

Fault = str  # what is wrong with an answer; empty when it is sound
Check = Callable[[Message], Fault]

_REAL = (FieldDescriptor.TYPE_DOUBLE, FieldDescriptor.TYPE_FLOAT)


def compile_check(response: Descriptor, expect: Mapping[str, pb.Expectation]) -> Check:
    """Returns the check of one node's answers."""
    real_fields: dict[str, tuple[list[FieldDescriptor], list[FieldDescriptor]]] = {}
    _collect_real(response, real_fields)
    checks = [_compile_expectation(response, *item) for item in sorted(expect.items())]

    def check(answer: Message) -> Fault:
        fault = next((f"{path} is not finite" for path in _not_finite(answer, real_fields)), "")
        return fault or next((fault for check in checks if (fault := check(answer))), "")

    return check


_RealFields = Mapping[str, tuple[list[FieldDescriptor], list[FieldDescriptor]]]


def _collect_real(
    message: Descriptor, found: dict[str, tuple[list[FieldDescriptor], list[FieldDescriptor]]]
) -> None:
    """Notes for `message` and all below it which fields hold real numbers, and which messages."""
    if message.full_name in found:
        return
    real = [field for field in message.fields if field.type in _REAL]
    nested = [field for field in message.fields if field.message_type is not None]
    found[message.full_name] = (real, nested)
    for field in nested:
        _collect_real(message_of(field), found)


def _not_finite(answer: Message, known: _RealFields) -> Iterator[str]:
    real, nested = known[answer.DESCRIPTOR.full_name]
    for field in real:
        value = getattr(answer, field.name)
        if not math.isfinite(sum(value) if field.is_repeated else value):
            yield field.name
    for field in nested:
        if field.is_repeated:
            value = getattr(answer, field.name)
            items = value.values() if is_map(field) else value
        else:
            items = [getattr(answer, field.name)] if answer.HasField(field.name) else []
        for item in items:
            if isinstance(item, Message):
                yield from (f"{field.name}.{path}" for path in _not_finite(item, known))


def _compile_expectation(response: Descriptor, name: str, expected: pb.Expectation) -> Check:
    get = compile_getter(response, parse_path(name))
    low = expected.min if expected.HasField("min") else -math.inf
    is_enum = field_type(response, parse_path(name)).leaf.enum_type is not None
    high = expected.max if expected.HasField("max") else math.inf

    def check(answer: Message) -> Fault:
        value = get(answer)
        if value is ABSENT or (isinstance(value, Sized) and len(value) == 0):
            return f"{name} is empty" if expected.required else ""
        if isinstance(value, Sized):
            fits = expected.size in (0, len(value))
            return "" if fits else f"{name} has {len(value)} elements, expected {expected.size}"
        if isinstance(value, (int, float)):
            if expected.required and is_enum and value == 0:
                return f"{name} is not stated"
            fits = low <= value <= high
            return "" if fits else f"{name} is {value:g}, expected {low:g} to {high:g}"
        return ""

    return check
