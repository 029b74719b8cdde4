"""Calls that answer by a script, for tests of policies."""

import asyncio
from collections.abc import Iterator
from dataclasses import dataclass, field
from itertools import chain, repeat

import grpc
from google.protobuf.message import Message

from fomofeed.type.v1 import type_pb2
from services.gateway.outcome import Outcome, failed
from tests.virtual_time import now

REQUEST = type_pb2.ModelRef()
ANSWER = Outcome(type_pb2.ModelRef(model="answer"))
UNAVAILABLE = failed(grpc.StatusCode.UNAVAILABLE, "gone")
INTERNAL = failed(grpc.StatusCode.INTERNAL, "broken")
LATE = failed(grpc.StatusCode.DEADLINE_EXCEEDED, "late")
FOREVER = 1e9


@dataclass
class Script:
    """A call that answers by a script of (seconds, outcome), the last one over and over."""

    steps: list[tuple[float, Outcome]]
    started: list[float] = field(default_factory=list)
    cancelled: list[float] = field(default_factory=list)

    def __post_init__(self) -> None:
        self._next: Iterator[tuple[float, Outcome]] = chain(self.steps, repeat(self.steps[-1]))

    async def __call__(self, request: Message, deadline: float) -> Outcome:
        seconds, outcome = next(self._next)
        self.started.append(now())
        try:
            await asyncio.sleep(seconds)
        except asyncio.CancelledError:
            self.cancelled.append(now())
            raise
        return outcome
