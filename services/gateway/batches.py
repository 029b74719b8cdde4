"""How many requests of a node travel as one: its batch method, compiled from the descriptors.

The batch's request repeats the node's request, or the only field of it (`user_ids` for requests
that hold one `user_id`). Its response repeats results, in the same order, each a oneof of the
node's response, or the only field of it, and a `google.rpc.Status`.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

from google.protobuf.descriptor import Descriptor, FieldDescriptor, MethodDescriptor
from google.protobuf.message import Message
from google.protobuf.message_factory import GetMessageClass
from google.rpc import status_pb2

from services.gateway.descriptors import message_of
from serving.errors import Violation

_STATUS = "google.rpc.Status"


class BatchError(ValueError):
    """A method is no batch form of another; `remedy` says what one looks like."""

    def __init__(self, text: str, remedy: str) -> None:
        super().__init__(text)
        self.remedy = remedy


@dataclass(frozen=True, slots=True)
class BatchPlan:
    """A batch method. `pack` and `unpack` keep the order; `unpack` raises nothing."""

    method: str  # path on the wire
    request: type[Message]
    response: type[Message]
    pack: Callable[[Sequence[Message]], Message]
    unpack: Callable[[Message], list[Message | status_pb2.Status]]
    items: str  # the repeated field of the request
    only_field: str  # of the node's request, where the batch repeats that; else empty

    def in_single_words(self, violation: Violation, index: int) -> Violation:
        """Returns a violation of item `index` as the node's own method would have told it."""
        prefix = f"{self.items}[{index}]"
        field = violation.field.removeprefix(prefix)
        if field == violation.field:
            return violation
        return Violation(
            field.removeprefix(".") or self.only_field, violation.value, violation.limit
        )


def compile_batch(single: MethodDescriptor, batch: MethodDescriptor) -> BatchPlan:
    """Compiles the batch form of a method; raises `BatchError` when it is none."""
    repeated = [field for field in batch.input_type.fields if field.is_repeated]
    if len(repeated) != 1:
        text = f"{batch.input_type.full_name} has {len(repeated)} repeated fields"
        raise BatchError(text, "a batch request repeats the node's request")
    items, only = repeated[0], _only(single.input_type)
    whole = items.message_type == single.input_type
    if not whole and not (only is not None and _same(items, only)):
        text = f"{items.name} of {batch.input_type.full_name} repeats something else"
        raise BatchError(text, f"it repeats {single.input_type.full_name}")
    request, response = GetMessageClass(batch.input_type), GetMessageClass(batch.output_type)
    return BatchPlan(
        method=f"/{batch.containing_service.full_name}/{batch.name}",
        request=request,
        response=response,
        pack=_packer(request, items.name, "" if whole or only is None else only.name),
        unpack=_unpacker(single, batch),
        items=items.name,
        only_field="" if whole or only is None else only.name,
    )


def _only(message: Descriptor) -> FieldDescriptor | None:
    field = message.fields[0] if len(message.fields) == 1 else None
    return field if field is not None and not field.is_repeated else None


def _same(one: FieldDescriptor, other: FieldDescriptor) -> bool:
    return one.type == other.type and one.message_type == other.message_type


def _packer(batch: type[Message], items: str, only: str) -> Callable[[Sequence[Message]], Message]:
    def pack(requests: Sequence[Message]) -> Message:
        values = [getattr(one, only) for one in requests] if only else requests
        return batch(**{items: values})

    return pack


def _unpacker(
    single: MethodDescriptor, batch: MethodDescriptor
) -> Callable[[Message], list[Message | status_pb2.Status]]:
    results = [f for f in batch.output_type.fields if f.is_repeated and f.message_type is not None]
    if len(results) != 1 or len(message_of(results[0]).oneofs) != 1:
        text = f"{batch.output_type.full_name} repeats no result"
        raise BatchError(text, "a result is a oneof of the response and google.rpc.Status")
    outcome = message_of(results[0]).oneofs[0]
    kinds = {
        field.message_type.full_name: field.name for field in outcome.fields if field.message_type
    }
    only, answer = _only(single.output_type), single.output_type
    inner = only.message_type.full_name if only is not None and only.message_type else ""
    name = kinds.get(answer.full_name) or kinds.get(inner)
    if name is None or _STATUS not in kinds:
        text = f"{outcome.full_name} holds no {answer.full_name} and {_STATUS}"
        raise BatchError(text, "a result is a oneof of the two")
    is_whole = answer.full_name in kinds
    return _unpack(
        results[0].name, outcome.name, name, answer, "" if is_whole or only is None else only.name
    )


def _unpack(
    results: str, oneof: str, name: str, answer: Descriptor, only: str
) -> Callable[[Message], list[Message | status_pb2.Status]]:
    single, unset = GetMessageClass(answer), status_pb2.Status(code=13, message="no outcome")

    def one(result: Any) -> Message | status_pb2.Status:
        which = result.WhichOneof(oneof)
        if which is None:
            return unset
        value: Message = getattr(result, which)
        return single(**{only: value}) if only and which == name else value

    return lambda response: [one(result) for result in getattr(response, results)]
