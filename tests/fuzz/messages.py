"""Messages of any type: grown from their descriptor, spoiled in structure, damaged in bytes."""

import io
import random
from collections.abc import Callable
from typing import Any

from google.protobuf.descriptor import FieldDescriptor
from google.protobuf.message import Message
from PIL import Image

from tests.serving.oip.mutations import damaged

_INTS = (0, 1, -1, 2, 24, 100, 167, 168, 2**31 - 1, -(2**31))
_LONG_INTS = (*_INTS, 2**53, 2**63 - 1, -(2**63))
_FLOATS = (0.0, -0.0, 0.5, 1.0, -1.0, 7.5, 1e30, -1e30, float("nan"), float("inf"), -float("inf"))
_TEXTS = (
    "",
    "coffee",
    "Ein Stück Käse 🧀",
    "\0",
    "a" * 5_000,
    "👩‍👩‍👧‍👦" * 40,
    "\u202eabc",
    "{x.__class__}",
    "../../etc/passwd",
    "%s%n",
    " ",
    "\ud7ff\uffff",
)
_USERS = (900_001, 900_002, 0, -1, 2**63 - 1, -(2**63))  # nobody whom other tests ask for


def _picture(kind: str, size: tuple[int, int]) -> bytes:
    buffer = io.BytesIO()
    Image.linear_gradient("L").resize(size).convert("RGB").save(buffer, kind)
    return buffer.getvalue()


_PICTURES = (
    _picture("JPEG", (64, 48)),
    _picture("PNG", (1, 1)),
    _picture("PNG", (300, 2)),
    _picture("GIF", (16, 16)),
)

_KINDS = {
    FieldDescriptor.CPPTYPE_STRING: "text",
    FieldDescriptor.CPPTYPE_DOUBLE: "float",
    FieldDescriptor.CPPTYPE_FLOAT: "float",
    FieldDescriptor.CPPTYPE_BOOL: "bool",
    FieldDescriptor.CPPTYPE_ENUM: "enum",
    FieldDescriptor.CPPTYPE_INT32: "int",
    FieldDescriptor.CPPTYPE_INT64: "long",
    FieldDescriptor.CPPTYPE_UINT32: "unsigned",
    FieldDescriptor.CPPTYPE_UINT64: "unsigned",
}
_LIKELY: dict[str, tuple[Any, ...]] = {
    "bytes": (b"", b"12345678", bytes(64)),
    "text": ("coffee", "morning", "First cup of the day"),
    "float": (0.0, 0.5, 5.0, 40.0),
    "bool": (False, True),
    "enum": (0, 1, 2),
}
_UNLIKELY: dict[str, tuple[Any, ...]] = {
    "text": _TEXTS,
    "float": _FLOATS,
    "bool": (False, True),
    "enum": (0, 1, 2, 77, -1),
    "int": _INTS,
    "long": _LONG_INTS,
    "unsigned": (0, 1, 2**32 - 1),
}

# Right values of fields that mean something, by the end of their name.
_KNOWN: dict[str, tuple[Any, ...]] = {
    "image": _PICTURES,
    "media": _PICTURES,
    "time_zone": ("Europe/Vienna", "UTC", "Mars/Base"),
    "locale": ("en", "de", "xx"),
    "content_type": ("post", "moment"),
    "action": ("analyze", ""),
    "policy": ("", "default"),
    "model_name": ("linear", "text", "shapes", "nobody"),
    "user_id": _USERS,
    "user_ids": _USERS,
    "viewer_id": _USERS,
    "paths": ("optimal_time", "expected_reach", "nobody.knows"),
}


def grown(message: Message, chance: random.Random, depth: int = 0) -> None:
    """Fills about half of the fields, with values that are likely to be taken."""
    fields: list[Any] = list(message.DESCRIPTOR.fields)
    for field in fields:
        if chance.random() < 0.55 or depth > 3:
            _set(message, field, chance, depth, _likely)


def spoil(message: Message, chance: random.Random) -> None:
    """Sets one field, somewhere in the tree, to something unlikely; or clears it."""
    holder = chance.choice([message, *_inside(message)])
    fields: list[Any] = list(holder.DESCRIPTOR.fields)
    if not fields:
        return
    field = chance.choice(fields)
    holder.ClearField(field.name)
    if chance.random() < 0.85:
        _set(holder, field, chance, 0, _unlikely)


def request_bytes(make: Callable[[], Message], chance: random.Random, *, harmless: bool) -> bytes:
    """A request as it goes on the wire: right, spoiled, with unknown fields, or damaged.

    `harmless` leaves single bytes alone, so that no request is for another user than was said.
    """
    message = make()
    grown(message, chance)
    for _ in range(chance.choice((0, 1, 1, 2, 4))):
        spoil(message, chance)
    content = message.SerializeToString()
    if chance.random() < 0.1:
        content += _unknown_field(chance)
    if not harmless and chance.random() < 0.25:
        content = damaged(chance, content)
    return content


def _unknown_field(chance: random.Random) -> bytes:
    """A field of a number that nobody has: varint, fixed, bytes, or a group left open."""
    return chance.choice(
        (b"\xf8\xff\x01\x01", b"\xfd\xff\x01abcd", b"\xfa\xff\x01\x03xyz", b"\xfb\xff\x01")
    )


def _inside(message: Message) -> list[Message]:
    found: list[Message] = []
    for field, value in message.ListFields():
        if field.type != FieldDescriptor.TYPE_MESSAGE or _is_map(field):
            continue
        for part in value if field.is_repeated else (value,):
            found += [part, *_inside(part)]
    return found


def _is_map(field: FieldDescriptor) -> bool:
    kind = field.message_type
    return bool(kind and kind.GetOptions().map_entry)


def _set(
    message: Message,
    field: FieldDescriptor,
    chance: random.Random,
    depth: int,
    value_of: Callable[[FieldDescriptor, random.Random], Any],
) -> None:
    if _is_map(field):
        return
    unlikely = value_of is _unlikely
    if field.type == FieldDescriptor.TYPE_MESSAGE:
        target = getattr(message, field.name)
        if not field.is_repeated:
            target.SetInParent()
            grown(target, chance, depth + 1)
            return
        for _ in range(chance.choice((0, 1, 40)) if unlikely else chance.choice((1, 2))):
            grown(target.add(), chance, depth + 1)
    elif field.is_repeated:
        count = chance.choice((1, 3, 169, 3_000)) if unlikely else chance.choice((1, 2, 24, 168))
        value = value_of(field, chance)
        if not isinstance(value, int | float):
            count = min(count, 200)
        if field.type == FieldDescriptor.TYPE_BYTES:
            count = min(count, 3)
        getattr(message, field.name).extend([value] * count)
    else:
        setattr(message, field.name, value_of(field, chance))


def _likely(field: FieldDescriptor, chance: random.Random) -> Any:
    values = next((v for end, v in _KNOWN.items() if field.name.endswith(end)), None)
    if values is None:
        values = _LIKELY.get(_kind(field), (0, 1, 3, 12, 23))
    return chance.choice(values)


def _unlikely(field: FieldDescriptor, chance: random.Random) -> Any:
    if field.name.endswith(("user_id", "user_ids")):
        return chance.choice(_USERS)
    if _kind(field) == "bytes":
        picture = chance.choice(_PICTURES)
        cut = picture[: chance.randrange(len(picture))]
        noise = chance.randbytes(chance.choice((1, 100, 5_000)))
        return chance.choice((b"", cut, damaged(chance, picture), noise, picture * 40))
    return chance.choice(_UNLIKELY[_kind(field)])


def _kind(field: FieldDescriptor) -> str:
    if field.type == FieldDescriptor.TYPE_BYTES:
        return "bytes"
    return _KINDS[field.cpp_type]
