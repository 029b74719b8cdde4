"""Small honest stand-ins: the real interface, a memory, and programmable trouble."""

import asyncio
from collections.abc import Callable
from typing import Any

from serving.scheduling.instances import BatchTooLargeError


class FakeEngine:
    """An `infer` that takes `a + b * items` seconds and answers each item with `answer(item)`.

    Raises for a batch that holds one of `poison`, and for one longer than `memory` items.
    """

    def __init__(
        self,
        seconds_per_batch: float = 0.0,
        seconds_per_item: float = 0.0,
        *,
        poison: frozenset[Any] = frozenset(),
        memory: int = 10**9,
        answer: Callable[[Any], Any] = lambda item: item,
    ) -> None:
        self.batches: list[list[Any]] = []
        self.starts: list[float] = []
        self.started = asyncio.Event()
        self.seconds = (seconds_per_batch, seconds_per_item)
        self._poison, self._memory, self._answer = poison, memory, answer

    async def infer(self, items: list[Any]) -> list[Any]:
        """Answers one batch and remembers it."""
        self.batches.append(list(items))
        self.starts.append(asyncio.get_running_loop().time())
        self.started.set()
        if len(items) > self._memory:
            raise BatchTooLargeError
        await asyncio.sleep(self.seconds[0] + self.seconds[1] * len(items))
        if not self._poison.isdisjoint(items):
            raise ValueError("poison")
        return [self._answer(item) for item in items]
