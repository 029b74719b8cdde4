"""What a graph may name: the messages and methods of a descriptor pool."""

import difflib
import importlib
import pkgutil
from collections.abc import Iterable
from typing import cast

from google.protobuf import descriptor_pool
from google.protobuf.descriptor import Descriptor, FieldDescriptor, MethodDescriptor
from google.protobuf.descriptor_pool import DescriptorPool
from google.protobuf.message import Message

import fomofeed


def descriptor_of(message: Message | type[Message]) -> Descriptor:
    """Returns the descriptor of a message; typeshed gives it one of two types."""
    return cast(Descriptor, message.DESCRIPTOR)


def message_of(field: FieldDescriptor) -> Descriptor:
    """Returns the message type of a field that is known to have one."""
    assert field.message_type is not None, f"{field.full_name} is a scalar"
    return field.message_type


def is_map(field: FieldDescriptor) -> bool:
    """Whether the field is a map, which protobuf treats as a repeated message."""
    return field.message_type is not None and field.message_type.GetOptions().map_entry


class UnknownNameError(LookupError):
    """A name is in no descriptor; `remedy` names what is close or known."""

    def __init__(self, kind: str, name: str, known: Iterable[str]) -> None:
        super().__init__(f"unknown {kind} {name!r}")
        self.remedy = suggestion(name, known)


def suggestion(name: str, known: Iterable[str]) -> str:
    """Says which of `known` was probably meant by `name`, or lists them all."""
    names = sorted(known)
    close = difflib.get_close_matches(name, names, n=1)
    return f"did you mean {close[0]}?" if close else f"known: {', '.join(names) or 'nothing'}"


def compiled_in() -> DescriptorPool:
    """Returns the pool with every contract that was generated into this installation."""
    for module in pkgutil.walk_packages(fomofeed.__path__, "fomofeed."):
        if module.name.endswith("_pb2"):
            importlib.import_module(module.name)
    return descriptor_pool.Default()


def unknown_services(pool: DescriptorPool, calls: Iterable[str]) -> list[str]:
    """Returns the services of `calls` ("package.Service/Method") that are not in the pool."""
    names = {call.partition("/")[0] for call in calls if call}
    return sorted(name for name in names if not _has_service(pool, name))


def _has_service(pool: DescriptorPool, name: str) -> bool:
    try:
        pool.FindServiceByName(name)
    except KeyError:
        return False
    return True


def find_message(pool: DescriptorPool, name: str) -> Descriptor:
    """Returns the descriptor of a message; raises `UnknownNameError`."""
    try:
        return pool.FindMessageTypeByName(name)
    except KeyError:
        raise UnknownNameError("message", name, ["its full name, such as a.b.v1.C"]) from None


def find_method(pool: DescriptorPool, call: str) -> MethodDescriptor:
    """Returns the method that `call` ("package.Service/Method") names.

    Raises `UnknownNameError` for an unknown service or method, and for one that streams.
    """
    service_name, _, method_name = call.partition("/")
    try:
        service = pool.FindServiceByName(service_name)
    except KeyError:
        hint = ["package.v1.Service/Method of a compiled contract"]
        raise UnknownNameError("service", service_name, hint) from None
    unary = {
        method.name: method
        for method in service.methods
        if not method.client_streaming and not method.server_streaming
    }
    if method_name not in unary:
        raise UnknownNameError("unary method", call, (f"{service_name}/{m}" for m in unary))
    return unary[method_name]
