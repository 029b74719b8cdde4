"""What is asked: a method, and the bytes of each request. Picklable, for the client processes.

The client neither builds nor parses messages while it measures, unless a payload must differ per
call or an answer must be looked at.
"""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Protocol

import grpc

from cluster.load.client import Call
from cluster.load.outcomes import DEGRADED, OK
from fomofeed.gateway.v1 import orchestrator_service_pb2 as pb
from serving.rpc.channels import MAX_MESSAGE_BYTES

ORCHESTRATE = "/fomofeed.gateway.v1.OrchestratorService/Orchestrate"
_JPEG_START = b"\xff\xd8"
# No keepalive, unlike the house's own channels: a foreign server may cut off a client that pings,
# and every call here has a deadline.
_OPTIONS = (
    ("grpc.max_receive_message_length", MAX_MESSAGE_BYTES),
    ("grpc.max_send_message_length", MAX_MESSAGE_BYTES),
    ("grpc.lb_policy_name", "round_robin"),
    ("grpc.enable_retries", 0),
)


class Payloads(Protocol):
    """Makes the bytes of request number `index`; the same index gives the same bytes."""

    def __call__(self, index: int) -> bytes: ...


@dataclass(frozen=True, slots=True)
class Cycle:
    """The same requests again and again."""

    requests: tuple[bytes, ...]

    def __call__(self, index: int) -> bytes:
        return self.requests[index % len(self.requests)]


@dataclass(frozen=True, slots=True)
class DistinctPhotos:
    """`Orchestrate` requests that no cache has seen: each JPEG carries a comment of its own."""

    photos: tuple[bytes, ...]
    user_id: int
    nonce: bytes  # of this run, so that the next one does not meet its answers; empty: no comment

    def __call__(self, index: int) -> bytes:
        photo = self.photos[index % len(self.photos)]
        if self.nonce and photo.startswith(_JPEG_START):
            comment = self.nonce + index.to_bytes(8, "big")
            size = (len(comment) + 2).to_bytes(2, "big")
            photo = b"".join((_JPEG_START, b"\xff\xfe", size, comment, photo[2:]))
        return pb.OrchestrateRequest(user_id=self.user_id, media=photo).SerializeToString()


def is_degraded(answer: bytes) -> int:
    """Tells whether an `Orchestrate` answer is whole; an index in `LABELS`."""
    return DEGRADED if pb.OrchestrateResponse.FromString(answer).degraded else OK


@dataclass(frozen=True, slots=True)
class Target:
    """One unary method of one server. `judge` looks at OK answers; None: they are not parsed."""

    address: str
    method: str  # "/package.Service/Method"
    payloads: Payloads
    judge: Callable[[bytes], int] | None = None

    def open(self) -> tuple[grpc.aio.Channel, Call]:
        """Opens a channel, and returns with it what makes the calls. Needs a running loop."""
        channel = grpc.aio.insecure_channel(self.address, options=_OPTIONS)
        return channel, self._caller(channel)

    def _caller(self, channel: grpc.aio.Channel) -> Call:
        ask: grpc.aio.UnaryUnaryMultiCallable[bytes, bytes] = channel.unary_unary(self.method)
        payloads, judge = self.payloads, self.judge

        async def call(index: int, timeout_s: float) -> int:
            try:
                answer = await ask(payloads(index), timeout=timeout_s)
            except grpc.aio.AioRpcError as error:
                return int(error.code().value[0])
            return judge(answer) if judge else OK

        return call
