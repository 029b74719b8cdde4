"""Analyses that are remembered by content, and computed once for those who ask at the same time.

The key is the SHA-256 of the encoded image, the tenant, and a fingerprint of all that an analysis
depends on beside: the digests of the models and of the tag file, and the settings. A server with
other models has other keys, so a new model never answers from the old. Tenants share nothing, or
one could find out by the time of an answer what another has posted.

Only whole analyses are remembered, never an error. An analysis that runs belongs to none of those
who wait for it: who leaves, leaves it to the others, and the last one out cancels it. It has the
deadline and class of the call that began it; if it fails, the others compute their own.
"""

import asyncio
from collections import OrderedDict
from collections.abc import Callable, Coroutine
from dataclasses import dataclass
from typing import Any, Generic, TypeVar

from services.clip.metrics import CACHE_ANSWERS, CACHE_BYTES
from serving import request

_OVERHEAD_BYTES = 512  # of an entry beside its analysis: key, objects, dictionary

Value = TypeVar("Value")
Key = tuple[bytes, str, bytes]  # fingerprint, tenant, digest of the image


@dataclass(slots=True, eq=False)
class _Flight(Generic[Value]):
    """One analysis that runs, and how many wait for it."""

    task: asyncio.Task[Value]
    waiting: int = 0


class ContentCache(Generic[Value]):
    """Remembers up to `max_bytes`, 0 for none; what was used longest ago leaves first.

    `size_of` tells the bytes of a value. Belongs to one event loop.
    """

    def __init__(self, max_bytes: int, size_of: Callable[[Value], int]) -> None:
        self._max_bytes, self._size_of = max_bytes, size_of
        self._entries: OrderedDict[Key, tuple[Value, int]] = OrderedDict()
        self._flights: dict[Key, _Flight[Value]] = {}
        self.size_bytes = 0
        CACHE_BYTES.set_function(lambda: self.size_bytes)

    async def get(
        self,
        fingerprint: bytes,
        digest: bytes,
        compute: Callable[[], Coroutine[Any, Any, Value]],
    ) -> Value:
        """Returns what is remembered, what another has begun, or what `compute` returns."""
        if not self._max_bytes:
            return await compute()
        facts = request.current()
        key = (fingerprint, facts.tenant, digest)
        if (known := self._remembered(key)) is not None:
            return self._told("remembered", known)
        if (flight := self._flights.get(key)) is not None:
            done = await self._wait(key, flight)
            if not done.cancelled() and done.exception() is None:
                return self._told("shared", done.result())
            return await compute()
        CACHE_ANSWERS.labels("computed").inc()
        task = asyncio.create_task(compute())
        flight = self._flights[key] = _Flight(task)
        task.add_done_callback(lambda done: self._land(key, flight, done))
        return (await self._wait(key, flight)).result()

    async def _wait(self, key: Key, flight: _Flight[Value]) -> asyncio.Task[Value]:
        flight.waiting += 1
        try:
            await asyncio.wait([flight.task])
        finally:
            flight.waiting -= 1
            if not flight.waiting and not flight.task.done():
                self._flights.pop(key, None)
                flight.task.cancel()
                await asyncio.wait([flight.task])
        return flight.task

    def _land(self, key: Key, flight: _Flight[Value], done: asyncio.Task[Value]) -> None:
        if self._flights.get(key) is flight:
            del self._flights[key]
        if not done.cancelled() and done.exception() is None:
            self._remember(key, done.result())

    def _remembered(self, key: Key) -> Value | None:
        entry = self._entries.get(key)
        if entry is None:
            return None
        self._entries.move_to_end(key)
        return entry[0]

    def _remember(self, key: Key, value: Value) -> None:
        size_bytes = self._size_of(value) + _OVERHEAD_BYTES
        if size_bytes > self._max_bytes:
            return
        if key in self._entries:
            self.size_bytes -= self._entries.pop(key)[1]
        self._entries[key] = (value, size_bytes)
        self.size_bytes += size_bytes
        while self.size_bytes > self._max_bytes:
            _, (_, freed) = self._entries.popitem(last=False)
            self.size_bytes -= freed

    def _told(self, origin: str, value: Value) -> Value:
        CACHE_ANSWERS.labels(origin).inc()
        request.current().ledger.cached = True
        return value
