"""Puts a failed call into plain words: what happened, what exactly, and what to do."""

from collections.abc import Iterator

import grpc
from google.protobuf.any_pb2 import Any as AnyMessage
from google.rpc import error_details_pb2 as details_pb

from serving.rpc.channels import status_of

_SENTENCES = {
    grpc.StatusCode.INVALID_ARGUMENT: "the request was refused as it is",
    grpc.StatusCode.NOT_FOUND: "what was asked for does not exist",
    grpc.StatusCode.UNAVAILABLE: "no server answers",
    grpc.StatusCode.RESOURCE_EXHAUSTED: "the server has no room for this request",
    grpc.StatusCode.DEADLINE_EXCEEDED: "the time for this request was over before the answer came",
    grpc.StatusCode.INTERNAL: "the server failed",
    grpc.StatusCode.UNIMPLEMENTED: "the server does not offer this",
    grpc.StatusCode.UNAUTHENTICATED: "the server wants credentials",
    grpc.StatusCode.PERMISSION_DENIED: "the server does not allow this",
}


def in_words(error: grpc.aio.AioRpcError, target: str) -> str:
    """The error as lines for a person: first what happened, then one line for each detail."""
    status = status_of(error)
    what = _SENTENCES.get(error.code(), "the call failed")
    lines = [f"{what} ({error.code().name} from {target})"]
    lines += [f"    {line}" for detail in status.details for line in _detail(detail)]
    if not status.details and status.message:
        lines.append(f"    {status.message}")
    if error.code() is grpc.StatusCode.UNAVAILABLE:
        lines.append("    `fomofeed up` starts the servers, `fomofeed status` shows them")
    if error.code() is grpc.StatusCode.DEADLINE_EXCEEDED:
        lines.append("    `--timeout` gives it more time")
    return "\n".join(lines)


def _detail(packed: AnyMessage) -> Iterator[str]:
    """The lines of one `google.rpc` detail; nothing for a kind that this command does not know."""
    bad, quota = details_pb.BadRequest(), details_pb.QuotaFailure()
    info, retry = details_pb.ErrorInfo(), details_pb.RetryInfo()
    resource = details_pb.ResourceInfo()
    if packed.Unpack(bad):
        yield from (violation.description for violation in bad.field_violations)
    elif packed.Unpack(quota):
        yield from (f"{broken.subject}: {broken.description}" for broken in quota.violations)
    elif packed.Unpack(resource):
        yield resource.description
    elif packed.Unpack(retry):
        yield f"try again in {retry.retry_delay.ToMilliseconds()} ms"
    elif packed.Unpack(info):
        facts = ", ".join(f"{key} {value}" for key, value in sorted(info.metadata.items()))
        yield f"reason {info.reason}" + (f" ({facts})" if facts else "")
