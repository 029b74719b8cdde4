from collections.abc import Sequence
from pathlib import Path

import grpc
import pytest

from cluster.analyze import MAX_PHOTO_BYTES, read_photo
from cluster.errors import CommandError
from cluster.explain import in_words
from serving.errors import (
    DeadlineError,
    InvalidRequestError,
    NotFoundError,
    QueueFullError,
    ServingError,
    Violation,
    to_status,
)
from serving.rpc.channels import STATUS_DETAILS_KEY


def rpc_error(error: ServingError) -> grpc.aio.AioRpcError:
    """The error as its caller gets it."""
    details: Sequence[tuple[str, bytes]] = [
        (STATUS_DETAILS_KEY, to_status(error).SerializeToString())
    ]
    return grpc.aio.AioRpcError(
        error.code, grpc.aio.Metadata(), grpc.aio.Metadata(*details), str(error)
    )


@pytest.mark.parametrize(
    ("error", "words"),
    [
        (
            InvalidRequestError(Violation("image", "9.1 MiB", "at most 8 MiB")),
            ["refused as it is (INVALID_ARGUMENT", "image is 9.1 MiB, at most 8 MiB"],
        ),
        (
            NotFoundError("graph", "x", ["analyze"]),
            ["does not exist", "no graph x; known: analyze"],
        ),
        (QueueFullError("queue", "512 rows", 0.05), ["no room", "queue: 512 rows", "in 50 ms"]),
        (DeadlineError.infeasible(0.1, 0.05), ["time for this request", "INFEASIBLE", "--timeout"]),
    ],
)
def test_an_error_is_told_with_its_details(error: ServingError, words: list[str]) -> None:
    text = in_words(rpc_error(error), "127.0.0.1:1")
    assert all(word in text for word in words), text


def test_an_error_without_details_is_told_in_its_own_words() -> None:
    error = grpc.aio.AioRpcError(
        grpc.StatusCode.UNAVAILABLE, grpc.aio.Metadata(), grpc.aio.Metadata(), "refused"
    )
    text = in_words(error, "127.0.0.1:1")
    assert "no server answers (UNAVAILABLE from 127.0.0.1:1)" in text
    assert "fomofeed up" in text


def test_a_photo_that_cannot_be_sent_is_refused_before_it_is(tmp_path: Path) -> None:
    empty, large = tmp_path / "empty.jpg", tmp_path / "large.jpg"
    empty.touch()
    large.write_bytes(bytes(MAX_PHOTO_BYTES + 1))
    for path, words in (
        (empty, "is empty"),
        (large, "8.0 MiB, at most 8 MiB"),
        (tmp_path, "is not a file"),
        (tmp_path / "none.jpg", "No such file"),
    ):
        with pytest.raises(CommandError, match=words):
            read_photo(path)
