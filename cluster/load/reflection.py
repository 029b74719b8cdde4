"""Requests for any unary method of a server that has reflection, from proto JSON."""

import grpc
from google.protobuf import json_format
from google.protobuf.descriptor_pool import DescriptorPool
from google.protobuf.message_factory import GetMessageClass
from grpc_reflection.v1alpha.proto_reflection_descriptor_database import (
    ProtoReflectionDescriptorDatabase,
)

from cluster.errors import CommandError


def request_bytes(address: str, method: str, json_text: str) -> bytes:
    """Returns the request of `package.Service/Method` as the server's own schema encodes it.

    Raises `CommandError` when there is no server, no reflection, no such unary method, or when the
    JSON does not fit the message.
    """
    service, _, name = method.strip("/").partition("/")
    try:
        with grpc.insecure_channel(address) as channel:
            pool = DescriptorPool(ProtoReflectionDescriptorDatabase(channel))
            found = pool.FindServiceByName(service).methods_by_name.get(name)
            if found is None:
                raise CommandError(f"{service} at {address} has no method {name!r}")
            if found.client_streaming or found.server_streaming:
                raise CommandError(f"{method} streams: only unary calls can be scheduled")
            message = GetMessageClass(found.input_type)()
    except KeyError:
        raise CommandError(f"{address} knows no service {service!r}") from None
    except grpc.RpcError as error:
        raise CommandError(f"cannot ask {address} what it serves: {_reason(error)}") from None
    try:
        return json_format.Parse(json_text, message).SerializeToString()
    except json_format.ParseError as error:
        raise CommandError(f"the data does not fit {found.input_type.full_name}: {error}") from None


def _reason(error: grpc.RpcError) -> str:
    if isinstance(error, grpc.Call):
        return f"{error.code().name} {error.details()}"
    return str(error)
