"""One call of a node over the wire, without stubs: the contracts come from the descriptors.

What every call carries: the deadline as gRPC's own, criticality, tenant and trace of the request
it is made for. What comes back: the answer, and the node's ledger from its trailers.
"""

import asyncio

import grpc
from google.protobuf.message import DecodeError, Message
from google.rpc import error_details_pb2 as details_pb
from google.rpc import status_pb2

from fomofeed.type.v1 import type_pb2
from services.gateway.answers import Check
from services.gateway.outcome import INVALID_OUTPUT, Call, Outcome, failed
from services.gateway.plan import NodePlan
from serving.errors import Violation
from serving.request import LEDGER_KEY, current
from serving.rpc.channels import status_of

_MAX_TEXT = 300  # of a node's own words in a report


class NodeCall:
    """Calls one method of one service. Safe for any number of requests at once."""

    def __init__(self, channel: grpc.aio.Channel, node: NodePlan) -> None:
        self._method = channel.unary_unary(
            node.method,
            request_serializer=node.request.SerializeToString,
            response_deserializer=node.response.FromString,
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
            return _failure(error)
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


def _failure(error: grpc.aio.AioRpcError) -> Outcome:
    status = status_of(error)
    violations, retry_after_s = _details(status)
    return failed(
        error.code(),
        (error.details() or "")[:_MAX_TEXT],
        violations=violations,
        retry_after_s=retry_after_s,
        ledger=_ledger(error.trailing_metadata()),
    )


def _details(status: status_pb2.Status) -> tuple[tuple[Violation, ...], float | None]:
    """Reads which fields were wrong, and when to come back."""
    violations: list[Violation] = []
    retry_after_s = None
    for detail in status.details:
        bad, retry = details_pb.BadRequest(), details_pb.RetryInfo()
        if detail.Unpack(bad):
            violations += [_violation(found) for found in bad.field_violations]
        elif detail.Unpack(retry):
            retry_after_s = retry.retry_delay.ToNanoseconds() / 1e9
    return tuple(violations), retry_after_s


def _violation(found: details_pb.BadRequest.FieldViolation) -> Violation:
    """Undoes `str(Violation)`: "image is 9.1 MiB, at most 8 MiB"."""
    text = found.description.removeprefix(f"{found.field} is ")
    value, comma, limit = text.partition(", ")
    return Violation(found.field, value, limit) if comma else Violation(found.field, "wrong", text)


def _ledger(trailers: grpc.aio.Metadata | None) -> type_pb2.Ledger | None:
    for key, value in trailers or ():
        if key == LEDGER_KEY and isinstance(value, bytes):
            try:
                return type_pb2.Ledger.FromString(value)
            except DecodeError:  # another server's idea of a ledger: the answer is what counts
                return None
    return None
