"""From bytes to messages: read where what is none can be refused as its caller's mistake."""

from collections.abc import AsyncIterator, Callable
from typing import Any

from google.protobuf.message import DecodeError

from serving.errors import InvalidRequestError, Violation

Read = Callable[[Any], Any]  # bytes, or a stream of them, to what a servicer is given


def reader(deserialize: Callable[[bytes], Any]) -> Read:
    """Reads one message here and not in gRPC, which calls bytes that are none our `UNKNOWN`."""

    def read(content: bytes) -> Any:
        try:
            return deserialize(content)
        except DecodeError:
            wrong = Violation("message", f"{len(content)} bytes", "a message of the method's type")
            raise InvalidRequestError(wrong) from None

    return read


def all_read(read: Read) -> Read:
    """Reads each message of a caller's stream."""

    async def read_all(contents: AsyncIterator[bytes]) -> AsyncIterator[Any]:
        async for content in contents:
            yield read(content)

    return read_all
