"""Fields of messages by path: their types for the check, compiled access for the plan.

What is compiled here runs for every call: no strings are parsed, no descriptor is asked.
"""

from collections.abc import Callable
from dataclasses import dataclass
from operator import attrgetter
from typing import Any, Final

from google.protobuf.descriptor import Descriptor, FieldDescriptor
from google.protobuf.message import Message

from services.gateway.descriptors import is_map, message_of, suggestion
from services.gateway.sources import Path

ABSENT: Final = object()  # what a getter returns for a field that is not there

_SINGLE = (str, bytes, bool, int, float, Message)

Getter = Callable[[Message], Any]
Setter = Callable[[Message, Any], None]

_KINDS = {
    FieldDescriptor.TYPE_DOUBLE: "double",
    FieldDescriptor.TYPE_FLOAT: "float",
    FieldDescriptor.TYPE_INT64: "int64",
    FieldDescriptor.TYPE_SINT64: "int64",
    FieldDescriptor.TYPE_SFIXED64: "int64",
    FieldDescriptor.TYPE_INT32: "int32",
    FieldDescriptor.TYPE_SINT32: "int32",
    FieldDescriptor.TYPE_SFIXED32: "int32",
    FieldDescriptor.TYPE_UINT32: "uint32",
    FieldDescriptor.TYPE_FIXED32: "uint32",
    FieldDescriptor.TYPE_UINT64: "uint64",
    FieldDescriptor.TYPE_FIXED64: "uint64",
    FieldDescriptor.TYPE_BOOL: "bool",
    FieldDescriptor.TYPE_STRING: "string",
    FieldDescriptor.TYPE_BYTES: "bytes",
}


class FieldPathError(LookupError):
    """A path leads nowhere in a message; `remedy` says what would."""

    def __init__(self, text: str, remedy: str) -> None:
        super().__init__(text)
        self.remedy = remedy


@dataclass(frozen=True, slots=True)
class FieldType:
    """Type of a field: a scalar's name, or the full name of a message or enum."""

    kind: str
    is_repeated: bool
    leaf: FieldDescriptor

    def __str__(self) -> str:
        return f"repeated {self.kind}" if self.is_repeated else self.kind


def field_type(message: Descriptor, path: Path) -> FieldType:
    """Returns the type of the field at `path`; raises `FieldPathError`."""
    current: Descriptor | None = message
    field: FieldDescriptor | None = None
    for index, name in enumerate(path.names):
        if current is None:
            outer = ".".join(path.names[:index])
            raise FieldPathError(f"{outer} has no fields", f"end the path at {outer}")
        field = current.fields_by_name.get(name)
        if field is None:
            text = f"unknown field {name!r} of {current.full_name}"
            raise FieldPathError(text, suggestion(name, current.fields_by_name))
        _check_repetition(field, index, path)
        current = field.message_type
    assert field is not None  # a path has at least one name
    return FieldType(_kind(field), field.is_repeated or path.repeated_at >= 0, field)


def _check_repetition(field: FieldDescriptor, index: int, path: Path) -> None:
    is_last, is_walked = index == len(path.names) - 1, index == path.repeated_at
    if is_map(field):
        raise FieldPathError(f"{field.name} is a map", "name a field that is none")
    if is_walked and not field.is_repeated:
        raise FieldPathError(f"{field.name} is not repeated", f"write {field.name} without []")
    if is_walked and is_last:
        raise FieldPathError(
            f"{path} ends in []", f"write {field.name}, or a field of its elements"
        )
    if field.is_repeated and path.repeated_at >= 0 and not is_walked:
        raise FieldPathError(f"{path} has two repeated fields", "at most one may be on the path")
    if field.is_repeated and not is_walked and not is_last:
        raise FieldPathError(f"{field.name} is repeated", f"write {field.name}[] to take all")


def _kind(field: FieldDescriptor) -> str:
    if field.message_type is not None:
        return field.message_type.full_name
    if field.enum_type is not None:
        return field.enum_type.full_name
    return _KINDS[field.type]


def _is_map(field: FieldDescriptor) -> bool:
    return field.message_type is not None and field.message_type.GetOptions().map_entry


def compile_getter(message: Descriptor, path: Path) -> Getter:
    """Returns a reader of the field at `path`, which must be valid.

    It gives `ABSENT` where a message on the way, or a leaf with presence, is not set; a list for
    a projection.
    """
    if path.repeated_at >= 0:
        return _compile_projection(message, path)
    *outer, last = path.names
    has_presence = field_type(message, path).leaf.has_presence
    if not outer:
        return _present(last) if has_presence else attrgetter(last)

    def get(source: Message) -> Any:
        for name in outer:
            if not source.HasField(name):
                return ABSENT
            source = getattr(source, name)
        if has_presence and not source.HasField(last):
            return ABSENT
        return getattr(source, last)

    return get


def _present(name: str) -> Getter:
    return lambda source: getattr(source, name) if source.HasField(name) else ABSENT


def _compile_projection(message: Descriptor, path: Path) -> Getter:
    at = path.repeated_at
    list_path, item_path = Path(path.names[: at + 1]), Path(path.names[at + 1 :])
    element = message_of(field_type(message, list_path).leaf)
    get_list, get_item = compile_getter(message, list_path), compile_getter(element, item_path)

    def get(source: Message) -> Any:
        items = get_list(source)
        if items is ABSENT:
            return ABSENT
        values = (get_item(item) for item in items)
        return [value for value in values if value is not ABSENT]

    return get


def compile_setter(message: Descriptor, path: Path) -> Setter:
    """Returns a writer of the field at `path`, which must be valid.

    Repeated values are appended. A projection puts each of several values into its own element,
    made where there is none; a single value goes into every element that is there.
    """
    if path.repeated_at >= 0:
        return _compile_spread(message, path)
    outer = path.names[:-1]
    put = _put(field_type(message, path).leaf)
    if not outer:
        return put

    def put_inside(target: Message, value: Any) -> None:
        for name in outer:
            target = getattr(target, name)
        put(target, value)

    return put_inside


def _put(field: FieldDescriptor) -> Setter:
    """Returns a writer of one field of the message at hand."""
    name = field.name
    if field.is_repeated:
        return lambda target, values: getattr(target, name).extend(values)
    if field.message_type is not None:
        return lambda target, value: getattr(target, name).CopyFrom(value)
    return lambda target, value: setattr(target, name, value)


def _compile_spread(message: Descriptor, path: Path) -> Setter:
    *outer, walked = path.names[: path.repeated_at + 1]
    list_path = Path((*outer, walked))
    element = message_of(field_type(message, list_path).leaf)
    put_item = compile_setter(element, Path(path.names[path.repeated_at + 1 :]))

    def put(target: Message, value: Any) -> None:
        for name in outer:
            target = getattr(target, name)
        items = getattr(target, walked)
        if isinstance(value, _SINGLE):
            for item in items:
                put_item(item, value)
        else:
            for index, one in enumerate(value):
                put_item(items[index] if index < len(items) else items.add(), one)

    return put
