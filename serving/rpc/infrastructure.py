"""Health, reflection and channelz on a gRPC server: what every server offers beside its own.

They answer in every phase and under any load, past admission and metrics. What is sent to them is
read here: gRPC's own reading answers bytes that are no message with UNKNOWN, and each such call
with a traceback in the log.
"""

from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from typing import Any

import grpc
from grpc_channelz.v1 import channelz, channelz_pb2_grpc
from grpc_health.v1 import health_pb2, health_pb2_grpc
from grpc_reflection.v1alpha import reflection, reflection_pb2_grpc

from serving.errors import InvalidRequestError
from serving.rpc.health import Health
from serving.rpc.reading import Read, all_read, reader

_HEALTH_NAME = health_pb2.DESCRIPTOR.services_by_name["Health"].full_name
_CHANNELZ_NAME = "grpc.channelz.v1.Channelz"

Context = grpc.aio.ServicerContext[Any, Any]
Handler = Any  # grpc.RpcMethodHandler: generic in its stubs, not at run time
AddHandlers = Callable[[Mapping[str, Handler]], None]  # by "/package.Service/Method"


def add_infrastructure(
    server: grpc.aio.Server, add: AddHandlers, health: Health, names: Sequence[str]
) -> None:
    """Adds the three; `names` are the services that reflection is to list beside them.

    `add` is given their handlers, `server` those that get a queue of their own.
    """
    health_pb2_grpc.add_HealthServicer_to_server(
        health,
        _HealthCheck(add, server),  # type: ignore[arg-type]  # has what they call
    )
    generic: Any = _AsGeneric(add)
    channelz_pb2_grpc.add_ChannelzServicer_to_server(channelz.aio.ChannelzServicer(), generic)
    listed = (*names, _HEALTH_NAME, _CHANNELZ_NAME, reflection.SERVICE_NAME)
    reflection_pb2_grpc.add_ServerReflectionServicer_to_server(  # type: ignore[no-untyped-call]
        reflection.aio.ReflectionServicer(listed), generic
    )


def read_here(handler: Handler) -> Handler:
    """Returns a handler that refuses what is no message with `INVALID_ARGUMENT`."""
    read, write = reader(handler.request_deserializer), handler.response_serializer
    make: Any  # the stubs type handlers for sync servers only
    if not handler.response_streaming:
        make = grpc.unary_unary_rpc_method_handler
        return make(_unary(handler.unary_unary, read), None, write)
    if handler.request_streaming:
        make = grpc.stream_stream_rpc_method_handler
        return make(_streaming(handler.stream_stream, all_read(read)), None, write)
    make = grpc.unary_stream_rpc_method_handler
    return make(_streaming(handler.unary_stream, read), None, write)


def _unary(behavior: Any, read: Read) -> Any:
    async def call(content: bytes, context: Context) -> Any:
        try:
            message = read(content)
        except InvalidRequestError as error:
            wrong = str(error)
        else:
            return await behavior(message, context)
        del content  # gRPC keeps the abort, which keeps this frame, until a collection
        return await context.abort(grpc.StatusCode.INVALID_ARGUMENT, wrong)

    return call


def _streaming(behavior: Any, read: Read) -> Any:
    async def call(content: Any, context: Context) -> AsyncIterator[Any]:
        try:
            async for answer in behavior(read(content), context):
                yield answer
            return
        except InvalidRequestError as error:
            wrong = str(error)
        del content
        await context.abort(grpc.StatusCode.INVALID_ARGUMENT, wrong)

    return call


class _AsGeneric:
    """Takes a servicer's handlers for a server without registering each method with gRPC.

    It waits for a call of every registered method anew whenever one has come: with the eleven of
    health, reflection and channelz that was 7 us of each call.
    """

    def __init__(self, add: AddHandlers) -> None:
        self._add = add

    def add_generic_rpc_handlers(self, handlers: Sequence[grpc.GenericRpcHandler]) -> None:
        """Called by generated code with the handlers that it gives below by name."""

    def add_registered_method_handlers(self, service: str, handlers: dict[str, Any]) -> None:
        """Called by generated code."""
        self._add({f"/{service}/{name}": read_here(h) for name, h in handlers.items()})


class _HealthCheck(_AsGeneric):
    """As above, but `Check` is registered: probes have a queue of their own before a busy loop."""

    def __init__(self, add: AddHandlers, server: grpc.aio.Server) -> None:
        super().__init__(add)
        self._server = server

    def add_registered_method_handlers(self, service: str, handlers: dict[str, Any]) -> None:
        super().add_registered_method_handlers(service, handlers)
        check = {"Check": read_here(handlers["Check"])}
        self._server.add_registered_method_handlers(service, check)
