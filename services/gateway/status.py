"""What a node's error status says to the gateway: which fields were wrong, when to come back."""

import grpc
from google.rpc import error_details_pb2 as details_pb
from google.rpc import status_pb2

from fomofeed.type.v1 import type_pb2
from services.gateway.outcome import Outcome, failed
from serving.errors import Violation

_MAX_TEXT = 300  # of a node's own words in a report
_CODES = {code.value[0]: code for code in grpc.StatusCode}


def failure(status: status_pb2.Status, ledger: type_pb2.Ledger | None) -> Outcome:
    """Returns the failure that `status` tells of."""
    violations: list[Violation] = []
    retry_after_s = None
    for detail in status.details:
        bad, retry = details_pb.BadRequest(), details_pb.RetryInfo()
        if detail.Unpack(bad):
            violations += [_violation(found) for found in bad.field_violations]
        elif detail.Unpack(retry):
            retry_after_s = retry.retry_delay.ToNanoseconds() / 1e9
    return failed(
        _CODES.get(status.code, grpc.StatusCode.UNKNOWN),
        status.message[:_MAX_TEXT],
        violations=tuple(violations),
        retry_after_s=retry_after_s,
        ledger=ledger,
    )


def _violation(found: details_pb.BadRequest.FieldViolation) -> Violation:
    """Undoes `str(Violation)`: "image is 9.1 MiB, at most 8 MiB"."""
    text = found.description.removeprefix(f"{found.field} is ")
    value, comma, limit = text.partition(", ")
    return Violation(found.field, value, limit) if comma else Violation(found.field, "wrong", text)
