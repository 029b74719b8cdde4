"""Retries: the gateway owns them alone, so that no two layers multiply.

hot: at most one, after 5 to 20 ms, for what a caller waits for. background: three, after up to 1, 2
and 4 s with full jitter, for what nobody waits for. Both only for UNAVAILABLE, only for idempotent
nodes, only while what is left of the deadline exceeds the wait and the node's p95, and only within
a budget: a service that is down sees at most a fifth more calls.
"""

import asyncio
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from random import Random

import grpc
from google.protobuf.message import Message

from services.gateway.outcome import Call, Outcome
from services.gateway.policies.budget import Budget
from services.gateway.policies.latency import LatencyWindow

BUDGET_SHARE = 0.2  # of requests


@dataclass(frozen=True, slots=True)
class RetryProfile:
    """How often, and after what wait: uniform between `least_share` of a step and the whole."""

    retry_count: int
    first_s: float
    factor: float
    cap_s: float
    least_share: float  # 0 is full jitter
    obeys_pushback: bool  # also retries RESOURCE_EXHAUSTED, when and as the server says

    def delay_s(self, retry: int, random: Random) -> float:
        """The wait before retry 1, 2, ..."""
        step_s = min(self.cap_s, self.first_s * self.factor ** (retry - 1))
        return random.uniform(self.least_share * step_s, step_s)


HOT = RetryProfile(1, 0.020, 1.0, 0.020, least_share=0.25, obeys_pushback=False)
BACKGROUND = RetryProfile(3, 1.0, 2.0, 30.0, least_share=0.0, obeys_pushback=True)
PROFILES: Mapping[str, RetryProfile | None] = {"none": None, "hot": HOT, "background": BACKGROUND}


class Retried:
    """Calls again where that may help. One for each node; its budget is shared by all requests."""

    def __init__(
        self,
        call: Call,
        profile: RetryProfile,
        latency: LatencyWindow,
        budget: Budget,
        random: Random,
        on_retry: Callable[[], None] = lambda: None,
    ) -> None:
        self._call = call
        self._profile = profile
        self._latency = latency
        self._budget = budget
        self._random = random
        self._on_retry = on_retry

    async def __call__(self, request: Message, deadline: float) -> Outcome:
        """Returns the last attempt's outcome, with the number of all attempts."""
        self._budget.deposit()
        outcome = await self._call(request, deadline)
        attempts = outcome.attempts
        for retry in range(1, self._profile.retry_count + 1):
            delay_s = self._delay_s(outcome, retry)
            if delay_s is None or not self._pays(delay_s, deadline):
                break
            await asyncio.sleep(delay_s)
            self._on_retry()
            outcome = await self._call(request, deadline)
            attempts += outcome.attempts
        return replace(outcome, attempts=attempts) if attempts != outcome.attempts else outcome

    def _delay_s(self, outcome: Outcome, retry: int) -> float | None:
        """How long to wait before trying again; None when another try would not help."""
        if outcome.reason == grpc.StatusCode.UNAVAILABLE.name:
            return self._profile.delay_s(retry, self._random)
        is_pushback = outcome.reason == grpc.StatusCode.RESOURCE_EXHAUSTED.name
        if is_pushback and self._profile.obeys_pushback and outcome.retry_after_s is not None:
            return max(outcome.retry_after_s, self._profile.delay_s(retry, self._random))
        return None

    def _pays(self, delay_s: float, deadline: float) -> bool:
        """Whether a try after `delay_s` can end in time, and the budget pays for it."""
        left_s = deadline - asyncio.get_running_loop().time()
        return left_s - delay_s > self._latency.quantile_s(0.95) and self._budget.try_spend()
