"""One call of a node over the wire, without stubs: the contracts come from the descriptors.

What every call carries: the deadline as gRPC's own, criticality, tenant and trace of the request
it is made for. What comes back: the answer, and the node's ledger from its trailers.
"""

import asyncio

import grpc
from google.protobuf.message import DecodeError, Message
from google.rpc import status_pb2

from fomofeed.type.v1 import type_pb2
from services.gateway.answers import Check
from services.gateway.outcome import INVALID_OUTPUT, Call, Outcome, failed
from services.gateway.status import failure
from serving.request import LEDGER_KEY, current
from serving.rpc.channels import status_of


class NodeCall:
    """Calls one method of one service. Safe for any number of requests at once."""

    def __init__(
        self,
        channel: grpc.aio.Channel,
        method: str,
        request: type[Message],
        response: type[Message],
    ) -> None:
        """`method` is the path on the wire, `request` and `response` its messages."""
        self._method = channel.unary_unary(
            method,
            request_serializer=request.SerializeToString,
            response_deserializer=response.FromString,
        )

    async def __call__(self, request: Message, deadline: float) -> Outcome:
        """Makes one attempt. Cancelling it cancels the call on the wire."""
        left_s = deadline - asyncio.get_running_loop().time()
        if left_s <= 0:
            return failed(grpc.StatusCode.DEADLINE_EXCEEDED, "no time was left", attempts=0)
        call = self._method(request, timeout=left_s, metadata=current().metadata())
        try:
            answer = await call
            trailers = await call.trailing_metadata()
        except grpc.aio.AioRpcError as error:
            return failure(_status(error), _ledger(error.trailing_metadata()))
        return Outcome(answer, ledger=_ledger(trailers))


class Checked:
    """Takes an answer that is not sound for no answer."""

    def __init__(self, call: Call, check: Check) -> None:
        self._call = call
        self._check = check

    async def __call__(self, request: Message, deadline: float) -> Outcome:
        """Returns the outcome, INVALID_OUTPUT where the answer breaks what is expected of it."""
        outcome = await self._call(request, deadline)
        if outcome.answer is None or not (fault := self._check(outcome.answer)):
            return outcome
        text = f"its answer is unsound: {fault}"
        code = grpc.StatusCode.INTERNAL
        return failed(code, text, reason=INVALID_OUTPUT, ledger=outcome.ledger)


def _status(error: grpc.aio.AioRpcError) -> status_pb2.Status:
    """The status with its details; its code is that of the call, whatever the details say."""
    status = status_of(error)
    status.code = error.code().value[0]
    return status


def _ledger(trailers: grpc.aio.Metadata | None) -> type_pb2.Ledger | None:
    for key, value in trailers or ():
        if key == LEDGER_KEY and isinstance(value, bytes):
            try:
                return type_pb2.Ledger.FromString(value)
            except DecodeError:  # another server's idea of a ledger: the answer is what counts
                return None
    return None
