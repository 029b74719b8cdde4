"""The error table, golden: one row a class."""

from collections.abc import Sequence
from typing import Any

import grpc
import pytest
from google.rpc import error_details_pb2 as details_pb

from serving.errors import (
    DeadlineError,
    EngineError,
    InvalidRequestError,
    ModelLoadError,
    NodeError,
    NotFoundError,
    NotImplementedHereError,
    NotReadyError,
    PermissionDeniedError,
    QueueFullError,
    ServingError,
    UnauthenticatedError,
    Violation,
    to_status,
)

Code = grpc.StatusCode

TABLE = [
    (
        InvalidRequestError(Violation("image", "9.1 MiB", "at most 8 MiB")),
        Code.INVALID_ARGUMENT,
        ["BadRequest"],
        "image is 9.1 MiB, at most 8 MiB",
    ),
    (
        NotFoundError("user", "7", ["1", "2"]),
        Code.NOT_FOUND,
        ["ResourceInfo"],
        "no user 7; known: 1, 2",
    ),
    (
        NotImplementedHereError("text embedding", "no text tower is loaded"),
        Code.UNIMPLEMENTED,
        ["ErrorInfo"],
        "text embedding is not available here: no text tower is loaded",
    ),
    (
        NotReadyError("loading"),
        Code.UNAVAILABLE,
        ["ErrorInfo", "RetryInfo"],
        "server is loading",
    ),
    (
        QueueFullError("queue", "512 rows", 0.25),
        Code.RESOURCE_EXHAUSTED,
        ["QuotaFailure", "RetryInfo"],
        "queue is full: 512 rows; retry in 250 ms",
    ),
    (
        DeadlineError.expired(),
        Code.DEADLINE_EXCEEDED,
        ["ErrorInfo"],
        "deadline passed before the request was executed",
    ),
    (
        DeadlineError.infeasible(0.09, 0.02),
        Code.DEADLINE_EXCEEDED,
        ["ErrorInfo"],
        "needs about 90 ms, deadline leaves 20 ms",
    ),
    (
        EngineError("clip failed", "abc123"),
        Code.INTERNAL,
        ["ErrorInfo"],
        "clip failed (incident abc123)",
    ),
    (
        NodeError("clip", Code.UNAVAILABLE, "server is draining"),
        Code.UNAVAILABLE,
        ["ErrorInfo"],
        "clip: server is draining",
    ),
    (
        ModelLoadError("clip", "digest differs"),
        Code.FAILED_PRECONDITION,
        ["ErrorInfo"],
        "model clip does not load: digest differs",
    ),
    (UnauthenticatedError("no token"), Code.UNAUTHENTICATED, [], "no token"),
    (PermissionDeniedError("not yours"), Code.PERMISSION_DENIED, [], "not yours"),
]


@pytest.mark.parametrize(("error", "code", "kinds", "text"), TABLE, ids=lambda value: None)
def test_each_error_has_its_code_details_and_text(
    error: ServingError, code: grpc.StatusCode, kinds: Sequence[str], text: str
) -> None:
    status = to_status(error)
    assert (status.code, status.message) == (code.value[0], text)
    assert [detail.TypeName().removeprefix("google.rpc.") for detail in status.details] == kinds


def unpacked(error: ServingError, kind: Any) -> Any:
    message = kind()
    assert any(detail.Unpack(message) for detail in to_status(error).details)
    return message


def test_only_pushback_tells_when_to_come_back() -> None:
    assert QueueFullError("queue", "8 rows", 0.25).trailers() == (
        ("grpc-retry-pushback-ms", "250"),
    )
    assert [
        error.trailers() for error, *_ in TABLE if error.code is not Code.RESOURCE_EXHAUSTED
    ] == [()] * 11


def test_reasons_of_a_deadline_differ() -> None:
    reasons = [
        unpacked(error, details_pb.ErrorInfo).reason
        for error in (DeadlineError.expired(), DeadlineError.infeasible(1, 0.5))
    ]
    assert reasons == ["EXPIRED", "INFEASIBLE"]


def test_failed_node_is_named_with_its_hop() -> None:
    error = NodeError("ranker", Code.INTERNAL, "boom", details=[details_pb.RetryInfo()])
    info = unpacked(error, details_pb.ErrorInfo)
    assert dict(info.metadata) == {"node": "ranker", "hop": "INTERNAL"}
    assert unpacked(error, details_pb.RetryInfo) == details_pb.RetryInfo()


def test_at_most_sixteen_violations_travel_and_the_rest_are_counted() -> None:
    error = InvalidRequestError(*(Violation(f"tags[{i}]", "empty", "1 to 100") for i in range(40)))
    assert len(unpacked(error, details_pb.BadRequest).field_violations) == 16
    assert str(error).endswith("; and 24 more")


def test_a_huge_value_is_cut_in_the_message() -> None:
    error = InvalidRequestError(Violation("caption", "x" * 1_000_000, "at most 2200 characters"))
    assert len(str(error)) < 400
    assert "(1000000 characters)" in str(error)
