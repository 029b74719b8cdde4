"""The errors a caller may see: each class carries its gRPC code and its `google.rpc` details.

This module is the error table. One interceptor (`serving.rpc.interceptors`) turns a
`ServingError` into its status; anything else is logged and leaves as a bare `INTERNAL`.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import ClassVar

import grpc
from google.protobuf.any_pb2 import Any as AnyMessage
from google.protobuf.duration_pb2 import Duration
from google.protobuf.message import Message
from google.rpc import error_details_pb2 as details_pb
from google.rpc import status_pb2

DOMAIN = "fomofeed"
PUSHBACK_KEY = "grpc-retry-pushback-ms"
MAX_VIOLATIONS = 16  # metadata has a size limit of its own (8 KiB by default)
MAX_TEXT = 256  # code points of one value that came from the caller

Metadata = tuple[tuple[str, str | bytes], ...]


@dataclass(frozen=True, slots=True)
class Violation:
    """One thing wrong with a request: `Violation("image", "9.1 MiB", "at most 8 MiB")`."""

    field: str
    value: str
    limit: str

    def __str__(self) -> str:
        return f"{self.field} is {_short(self.value)}, {self.limit}"


class ServingError(Exception):
    """An error that a caller may see. Its text reaches the caller, so it never holds a path."""

    code: ClassVar[grpc.StatusCode] = grpc.StatusCode.INTERNAL
    retry_after_s: float | None = None  # None: nobody should retry by itself

    def details(self) -> Sequence[Message]:
        """Returns the `google.rpc` messages that explain this error."""
        return ()

    def trailers(self) -> Metadata:
        """Returns the trailing metadata that goes with it, beside the status details."""
        return ()

    def _retry_info(self) -> Sequence[Message]:
        if self.retry_after_s is None:
            return ()
        return (details_pb.RetryInfo(retry_delay=_duration(self.retry_after_s)),)


class InvalidRequestError(ServingError):
    """The request itself is wrong; the same request fails everywhere."""

    code = grpc.StatusCode.INVALID_ARGUMENT

    def __init__(self, *violations: Violation) -> None:
        shown = "; ".join(str(violation) for violation in violations[:MAX_VIOLATIONS])
        more = len(violations) - MAX_VIOLATIONS
        super().__init__(shown + (f"; and {more} more" if more > 0 else ""))
        self.violations = violations

    def details(self) -> Sequence[Message]:
        fields = [
            details_pb.BadRequest.FieldViolation(
                field=violation.field, description=str(violation), reason="OUT_OF_BOUNDS"
            )
            for violation in self.violations[:MAX_VIOLATIONS]
        ]
        return (details_pb.BadRequest(field_violations=fields),)


class NotFoundError(ServingError):
    """What the request names does not exist here."""

    code = grpc.StatusCode.NOT_FOUND

    def __init__(self, kind: str, name: str, known: Sequence[str] = ()) -> None:
        self.kind, self.name = kind, name
        self.known = tuple(known)[:MAX_VIOLATIONS]
        hint = f"; known: {', '.join(self.known)}" if self.known else ""
        super().__init__(f"no {kind} {_short(name)}{hint}")

    def details(self) -> Sequence[Message]:
        return (
            details_pb.ResourceInfo(
                resource_type=self.kind, resource_name=_short(self.name), description=str(self)
            ),
        )


class NotImplementedHereError(ServingError):
    """A capability that this server knows but has no model for, as it is configured."""

    code = grpc.StatusCode.UNIMPLEMENTED

    def __init__(self, capability: str, remedy: str) -> None:
        super().__init__(f"{capability} is not available here: {remedy}")
        self.capability = capability

    def details(self) -> Sequence[Message]:
        return (_info("CAPABILITY_MISSING", capability=self.capability),)


class NotReadyError(ServingError):
    """Loading, draining, or no healthy replica: another replica may answer."""

    code = grpc.StatusCode.UNAVAILABLE

    def __init__(self, state: str, retry_after_s: float = 1.0) -> None:
        super().__init__(f"server is {state}")
        self.state = state
        self.retry_after_s = retry_after_s

    def details(self) -> Sequence[Message]:
        return (_info("NOT_READY", state=self.state), *self._retry_info())


class QueueFullError(ServingError):
    """No room, or no chance to finish in time behind what already waits."""

    code = grpc.StatusCode.RESOURCE_EXHAUSTED

    def __init__(self, subject: str, limit: str, retry_after_s: float) -> None:
        super().__init__(f"{subject} is full: {limit}; retry in {retry_after_s * 1000:.0f} ms")
        self.subject, self.limit = subject, limit
        self.retry_after_s = retry_after_s

    def details(self) -> Sequence[Message]:
        violation = details_pb.QuotaFailure.Violation(subject=self.subject, description=self.limit)
        return (details_pb.QuotaFailure(violations=[violation]), *self._retry_info())

    def trailers(self) -> Metadata:
        assert self.retry_after_s is not None
        return ((PUSHBACK_KEY, str(max(1, round(self.retry_after_s * 1000)))),)


class DeadlineError(ServingError):
    """The caller's deadline has passed, or is shorter than the work itself takes."""

    code = grpc.StatusCode.DEADLINE_EXCEEDED

    def __init__(self, reason: str, text: str) -> None:
        super().__init__(text)
        self.reason = reason

    @classmethod
    def expired(cls) -> "DeadlineError":
        """The deadline passed before the work began; nothing was executed."""
        return cls("EXPIRED", "deadline passed before the request was executed")

    @classmethod
    def infeasible(cls, needs_s: float, left_s: float) -> "DeadlineError":
        """Even an idle server could not answer in the time left."""
        text = f"needs about {needs_s * 1000:.0f} ms, deadline leaves {left_s * 1000:.0f} ms"
        return cls("INFEASIBLE", text)

    def details(self) -> Sequence[Message]:
        return (_info(self.reason),)


class EngineError(ServingError):
    """A model raised. The caller learns an incident id, the log has the rest."""

    code = grpc.StatusCode.INTERNAL

    def __init__(self, text: str, incident: str = "", node: str = "") -> None:
        super().__init__(f"{text} (incident {incident})" if incident else text)
        self.incident, self.node = incident, node

    def details(self) -> Sequence[Message]:
        return (_info("ENGINE_FAILED", incident=self.incident, node=self.node),)


class ModelLoadError(ServingError):
    """A model of the repository does not load; what served before serves on."""

    code = grpc.StatusCode.FAILED_PRECONDITION

    def __init__(self, model: str, reason: str) -> None:
        super().__init__(f"model {model} does not load: {reason}")
        self.model = model

    def details(self) -> Sequence[Message]:
        return (_info("LOAD_FAILED", model=self.model),)


class UnauthenticatedError(ServingError):
    """No credentials, or none that this server can verify."""

    code = grpc.StatusCode.UNAUTHENTICATED


class PermissionDeniedError(ServingError):
    """Known, but not allowed to call this method."""

    code = grpc.StatusCode.PERMISSION_DENIED


class NodeError(ServingError):
    """A required node of a graph failed and has no substitute: that node's code, with its name."""

    def __init__(
        self,
        node: str,
        code: grpc.StatusCode,
        text: str,
        details: Sequence[Message] = (),
        retry_after_s: float | None = None,
    ) -> None:
        super().__init__(f"{node}: {text}")
        self.node = node
        self.code = code  # type: ignore[misc]  # the one error whose code is another server's
        self.retry_after_s = retry_after_s
        self._node_details = tuple(details)

    def details(self) -> Sequence[Message]:
        return (_info("NODE_FAILED", node=self.node, hop=self.code.name), *self._node_details)

    def trailers(self) -> Metadata:
        if self.code is not grpc.StatusCode.RESOURCE_EXHAUSTED or self.retry_after_s is None:
            return ()
        return ((PUSHBACK_KEY, str(max(1, round(self.retry_after_s * 1000)))),)


def to_status(error: ServingError) -> status_pb2.Status:
    """Returns `error` as the `google.rpc.Status` of a batch item or of a whole call."""
    packed = []
    for message in error.details():
        detail = AnyMessage()
        detail.Pack(message)
        packed.append(detail)
    return status_pb2.Status(code=error.code.value[0], message=str(error), details=packed)


def _info(reason: str, **metadata: str) -> details_pb.ErrorInfo:
    known = {key: value for key, value in metadata.items() if value}
    return details_pb.ErrorInfo(reason=reason, domain=DOMAIN, metadata=known)


def _duration(seconds: float) -> Duration:
    duration = Duration()
    duration.FromNanoseconds(int(seconds * 1e9))
    return duration


def _short(text: str) -> str:
    return text if len(text) <= MAX_TEXT else f"{text[:MAX_TEXT]}… ({len(text)} characters)"
