"""Several requests of one node in one call: one alone by the node's own method, more by its batch.

Whatever the batch method says, each request ends as if it had been asked alone.
"""

import asyncio
from collections.abc import Callable, Coroutine, Sequence
from dataclasses import dataclass, replace
from typing import Any

import grpc
from google.protobuf.message import Message
from google.rpc import status_pb2

from services.gateway.batches import BatchPlan
from services.gateway.outcome import Call, Outcome, failed
from services.gateway.status import failure

# Requests with their deadlines in, what came of each out, in order.
CallTogether = Callable[[Sequence[tuple[Message, float]]], Coroutine[Any, Any, list[Outcome]]]

# What a server says of a batch as a whole when its requests may be good one by one.
_OF_THE_BATCH = (grpc.StatusCode.INVALID_ARGUMENT, grpc.StatusCode.UNIMPLEMENTED)


@dataclass(frozen=True, slots=True)
class Together:
    """Calls a node over the wire by its two methods."""

    single: Call
    batch: Call
    plan: BatchPlan

    async def __call__(self, asked: Sequence[tuple[Message, float]]) -> list[Outcome]:
        """A `CallTogether`. A batch has the time of the last of its requests."""
        if len(asked) == 1:
            return [await self.single(*asked[0])]
        requests, deadlines = zip(*asked, strict=True)
        outcome = await self.batch(self.plan.pack(requests), max(deadlines))
        if outcome.answer is not None:
            return self._outcomes(outcome, outcome.answer, len(asked))
        if outcome.code in _OF_THE_BATCH:
            return list(await asyncio.gather(*(self.single(*one) for one in asked)))
        return [outcome] * len(asked)

    def _outcomes(self, outcome: Outcome, answer: Message, count: int) -> list[Outcome]:
        results = self.plan.unpack(answer)
        if len(results) != count:
            text = f"{len(results)} results for {count} requests"
            return [failed(grpc.StatusCode.INTERNAL, text, ledger=outcome.ledger)] * count
        return [self._outcome(outcome, result, seat) for seat, result in enumerate(results)]

    def _outcome(self, outcome: Outcome, result: Message | status_pb2.Status, seat: int) -> Outcome:
        if not isinstance(result, status_pb2.Status):
            return Outcome(result, ledger=outcome.ledger)
        lost = failure(result, outcome.ledger)
        named = (self.plan.in_single_words(violation, seat) for violation in lost.violations)
        return replace(lost, violations=tuple(named))
