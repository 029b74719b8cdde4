"""Trouble on demand: what a node's service might do, done to its calls by the gateway itself.

Off unless the operator's settings say otherwise; nothing that a caller sends can turn it on.
The text is a list of `node:kind[=value][@share]`, separated by semicolons:

    clip:latency=200ms@0.3; ranker:error=UNAVAILABLE; timing:hang@0.1; profile:garbage=nan

latency adds a time, error answers with a gRPC status (UNAVAILABLE unless named), hang never does;
garbage spoils a real answer: `nan` puts it into every number, `sizes` cuts every list short,
`empty` leaves nothing of it. A share is of the calls, 0 to 1, all unless stated.
"""

import asyncio
import math
from collections.abc import Sequence
from dataclasses import dataclass, replace
from random import Random

import grpc
from google.protobuf.descriptor import FieldDescriptor
from google.protobuf.message import Message

from services.gateway.descriptors import descriptor_of, is_map
from services.gateway.outcome import Call, Outcome, failed

KINDS = ("latency", "error", "hang", "garbage")
GARBAGE = ("nan", "sizes", "empty")

_REAL = (FieldDescriptor.TYPE_DOUBLE, FieldDescriptor.TYPE_FLOAT)
_UNITS_S = {"ms": 1e-3, "s": 1.0}


@dataclass(frozen=True, slots=True)
class Fault:
    """One kind of trouble of one node; `value` is a status, a kind of garbage, or seconds."""

    node: str
    kind: str
    value: str = ""
    share: float = 1.0
    latency_s: float = 0.0


def parse_faults(text: str) -> tuple[Fault, ...]:
    """Returns the faults written as `text`; raises `ValueError` naming the one that is not."""
    return tuple(_parse(part.strip()) for part in text.split(";") if part.strip())


def _parse(text: str) -> Fault:
    what, _, share = text.partition("@")
    node, _, rest = what.partition(":")
    kind, _, value = rest.partition("=")
    fault = Fault(node.strip(), kind.strip(), value.strip(), float(share) if share else 1.0)
    if not fault.node or fault.kind not in KINDS or not 0 <= fault.share <= 1:
        raise ValueError(f"fault {text!r} is no node:kind[=value][@share]; {', '.join(KINDS)}")
    if fault.kind == "latency":
        return replace(fault, latency_s=_seconds(fault.value, text))
    known = {"error": [code.name for code in grpc.StatusCode][1:], "garbage": [*GARBAGE]}
    if fault.value and fault.value not in known.get(fault.kind, ()):
        options = ", ".join(known.get(fault.kind, ())) or "none"
        raise ValueError(f"fault {text!r} has the value {fault.value!r}; known: {options}")
    return fault


def _seconds(value: str, text: str) -> float:
    for unit, scale in _UNITS_S.items():
        number = value.removesuffix(unit)
        if number != value and number.replace(".", "", 1).isdigit():
            return float(number) * scale
    raise ValueError(f"fault {text!r} states no time such as 200ms or 1.5s")


class Faulty:
    """Does `faults` to the calls of one node."""

    def __init__(self, call: Call, faults: Sequence[Fault], random: Random) -> None:
        self._call = call
        self._faults = faults
        self._random = random

    async def __call__(self, request: Message, deadline: float) -> Outcome:
        """Returns what such a service would have answered."""
        struck = [fault for fault in self._faults if self._random.random() < fault.share]
        for fault in struck:
            if fault.kind == "latency":
                await asyncio.sleep(fault.latency_s)
            elif fault.kind == "hang":
                await asyncio.sleep(max(0.0, deadline - asyncio.get_running_loop().time()))
                return failed(grpc.StatusCode.DEADLINE_EXCEEDED, "injected: no answer")
            elif fault.kind == "error":
                return failed(grpc.StatusCode[fault.value or "UNAVAILABLE"], "injected")
        outcome = await self._call(request, deadline)
        for fault in struck:
            if fault.kind == "garbage" and outcome.answer is not None:
                outcome = replace(outcome, answer=spoiled(outcome.answer, fault.value or "nan"))
        return outcome


def spoiled(answer: Message, how: str) -> Message:
    """Returns `answer` as nonsense of one of the kinds of `GARBAGE`."""
    worse = type(answer)()
    if how != "empty":
        worse.CopyFrom(answer)
        _spoil(worse, how)
    return worse


def _spoil(message: Message, how: str) -> None:
    for field in descriptor_of(message).fields:
        if field.is_repeated:
            if not is_map(field):
                _spoil_list(getattr(message, field.name), field, how)
        elif field.message_type is not None:
            if message.HasField(field.name):
                _spoil(getattr(message, field.name), how)
        elif how == "nan" and field.type in _REAL:
            setattr(message, field.name, math.nan)


def _spoil_list(items: list[object], field: FieldDescriptor, how: str) -> None:
    if how == "sizes":
        del items[len(items) // 2 :]
    elif field.type in _REAL and items:
        items[0] = math.nan
    for item in items:
        if isinstance(item, Message):
            _spoil(item, how)
