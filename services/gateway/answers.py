"""Whether a node's answer is sound: numbers finite, and what the graph file expects of it.

Compiled once for each node; a check of an answer walks only over fields that hold numbers.
"""

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from itertools import chain

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
    reals = _Reals.of(response)
    checks = [_compile_expectation(response, *item) for item in sorted(expect.items())]

    def check(answer: Message) -> Fault:
        if not math.isfinite(reals.total(answer)) and (path := reals.not_finite(answer)):
            return f"{path} is not finite"
        for expectation in checks:
            if fault := expectation(answer):
                return fault
        return ""

    return check


@dataclass(slots=True)
class _Reals:
    """The fields of a message type that hold real numbers, and those whose messages do."""

    single: list[str] = field(default_factory=list)
    repeated: list[str] = field(default_factory=list)
    messages: list[tuple[str, "_Reals"]] = field(default_factory=list)
    lists: list[tuple[str, "_Reals"]] = field(default_factory=list)
    maps: list[tuple[str, "_Reals"]] = field(default_factory=list)

    @staticmethod
    def of(message: Descriptor, known: "dict[str, _Reals] | None" = None) -> "_Reals":
        known = {} if known is None else known
        if message.full_name not in known:
            found = known[message.full_name] = _Reals()  # first: types may hold themselves
            for each in message.fields:
                if each.type in _REAL:
                    (found.repeated if each.is_repeated else found.single).append(each.name)
                elif each.message_type is not None and _holds_reals(each.message_type, set()):
                    found._add(each, known)
        return known[message.full_name]

    def _add(self, each: FieldDescriptor, known: "dict[str, _Reals]") -> None:
        if not is_map(each):
            inner = _Reals.of(message_of(each), known)
            (self.lists if each.is_repeated else self.messages).append((each.name, inner))
            return
        value = message_of(each).fields_by_name["value"]
        if value.message_type is not None:
            self.maps.append((each.name, _Reals.of(value.message_type, known)))

    def total(self, answer: Message) -> float:
        """Returns the sum of all numbers: finite only if each of them is; quicker than asking."""
        total = 0.0
        for name in self.single:
            total += getattr(answer, name)
        for name in self.repeated:
            total += sum(getattr(answer, name))
        for name, inner in self.messages:
            if answer.HasField(name):
                total += inner.total(getattr(answer, name))
        for name, inner in self.lists:
            total += sum(map(inner.total, getattr(answer, name)))
        for name, inner in self.maps:
            total += sum(map(inner.total, getattr(answer, name).values()))
        return total

    def not_finite(self, answer: Message) -> str:
        """Returns the path of a field that is not finite; empty when there is none."""
        for name in self.single:
            if not math.isfinite(getattr(answer, name)):
                return name
        for name in self.repeated:
            if not all(map(math.isfinite, getattr(answer, name))):
                return name
        for name, inner in self.messages:
            if answer.HasField(name) and (path := inner.not_finite(getattr(answer, name))):
                return f"{name}.{path}"
        return self._not_finite_inside(answer) if self.lists or self.maps else ""

    def _not_finite_inside(self, answer: Message) -> str:
        lists = ((name, inner, getattr(answer, name)) for name, inner in self.lists)
        maps = ((name, inner, getattr(answer, name).values()) for name, inner in self.maps)
        for name, inner, items in chain(lists, maps):
            for item in items:
                if path := inner.not_finite(item):
                    return f"{name}.{path}"
        return ""


def _holds_reals(message: Descriptor, seen: set[str]) -> bool:
    """Whether there is a real number in `message` or below it."""
    if message.full_name in seen:
        return False
    seen.add(message.full_name)
    return any(
        each.type in _REAL
        or (each.message_type is not None and _holds_reals(each.message_type, seen))
        for each in message.fields
    )


def _compile_expectation(response: Descriptor, name: str, expected: pb.Expectation) -> Check:
    get = compile_getter(response, parse_path(name))
    low = expected.min if expected.HasField("min") else -math.inf
    high = expected.max if expected.HasField("max") else math.inf
    required, size = expected.required, expected.size
    is_enum = field_type(response, parse_path(name)).leaf.enum_type is not None

    def check(answer: Message) -> Fault:
        value = get(answer)
        if value is ABSENT:
            return f"{name} is empty" if required else ""
        if isinstance(value, (int, float)):
            if required and is_enum and value == 0:
                return f"{name} is not stated"
            fits = low <= value <= high
            return "" if fits else f"{name} is {value:g}, expected {low:g} to {high:g}"
        if isinstance(value, Message):
            return ""
        if not len(value):
            return f"{name} is empty" if required else ""
        fits = size in (0, len(value))
        return "" if fits else f"{name} has {len(value)} elements, expected {size}"

    return check
