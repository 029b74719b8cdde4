"""How one run of a node ended: the value that policies hand to each other and to the executor.

A failure is a value, not an exception, so that a policy reads what happened and decides.
"""

import asyncio
from collections.abc import Callable, Coroutine
from dataclasses import dataclass, replace
from typing import Any

import grpc
from google.protobuf.message import Message

from fomofeed.type.v1 import type_pb2
from serving.errors import Violation

INVALID_OUTPUT = "INVALID_OUTPUT"
SKIPPED = "SKIPPED_UNDER_LOAD"
EXPIRED = grpc.StatusCode.DEADLINE_EXCEEDED.name

_TIMER_S = 0.001  # the loop's timers may fire so much early

# Runs one node: its request and the deadline (of the loop's clock) in, what came of it out.
# Raises nothing but `asyncio.CancelledError`.
Call = Callable[[Message, float], Coroutine[Any, Any, "Outcome"]]


@dataclass(frozen=True, slots=True)
class Outcome:
    """An answer, or why there is none."""

    answer: Message | None = None
    code: grpc.StatusCode = grpc.StatusCode.OK
    reason: str = ""  # as `Degradation.reason` tells it; empty when there is an answer
    text: str = ""
    violations: tuple[
        Violation, ...
    ] = ()  # of an INVALID_ARGUMENT, by fields of the node's request
    retry_after_s: float | None = None  # pushback of the node
    ledger: type_pb2.Ledger | None = None
    attempts: int = 1  # calls made over the wire

    @property
    def error(self) -> str:
        """What `NodeReport.error` says: the reason and the node's words."""
        return f"{self.reason}: {self.text}" if self.reason else ""

    def given_again(self, ledger: type_pb2.Ledger | None) -> "Outcome":
        """Returns this outcome for another request, for which no call was made."""
        return replace(self, ledger=ledger, attempts=0)


def has_expired(deadline: float) -> bool:
    """Whether a call that is being cancelled is so because its time is over."""
    return asyncio.get_running_loop().time() >= deadline - _TIMER_S


def failed(
    code: grpc.StatusCode,
    text: str,
    *,
    reason: str = "",
    violations: tuple[Violation, ...] = (),
    retry_after_s: float | None = None,
    ledger: type_pb2.Ledger | None = None,
    attempts: int = 1,
) -> Outcome:
    """Returns a failure; its reason is the name of the code unless said otherwise."""
    return Outcome(
        None, code, reason or code.name, text, violations, retry_after_s, ledger, attempts
    )
