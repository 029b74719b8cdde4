"""Answers that are remembered: bounded in bytes and in time, keyed by everything they depend on.

The key is the node, the model that answered, the tenant, and the SHA-256 of the serialised request.
Only the last model seen is asked for, and one that was replaced never comes back as long as the
service stays connected: while two versions run side by side, a late answer of the old one must not
revive what it said before. A connection made anew may hide a new version, so nothing is answered
from memory then until a call has told which model is there. An answer that names no model is never
kept, because nobody could say when it becomes old.
"""

import asyncio
from collections import OrderedDict
from dataclasses import dataclass

from fomofeed.type.v1 import type_pb2
from services.gateway.metrics import CACHE_BYTES, CACHE_HITS, CACHE_MISSES
from services.gateway.outcome import Outcome

_OVERHEAD_BYTES = 512  # of an entry beside its answer: key, message objects, dictionary

Key = tuple[str, bytes, str, bytes]  # node, model, tenant, digest of the request


@dataclass(frozen=True, slots=True)
class _Entry:
    outcome: Outcome
    expires: float
    size_bytes: int


class AnswerStore:
    """The answers of all nodes, the least recently used ones leave first. For one event loop."""

    def __init__(self, max_bytes: int) -> None:
        self._max_bytes = max_bytes
        self._entries: OrderedDict[Key, _Entry] = OrderedDict()
        self.size_bytes = 0
        CACHE_BYTES.set_function(lambda: self.size_bytes)

    def get(self, key: Key, now: float) -> Outcome | None:
        """Returns what is remembered under `key` and has not expired."""
        entry = self._entries.get(key)
        if entry is None:
            return None
        if entry.expires <= now:
            self._remove(key)
            return None
        self._entries.move_to_end(key)
        return entry.outcome

    def put(self, key: Key, outcome: Outcome, expires: float) -> None:
        """Remembers an answer, and forgets the oldest for it; one larger than all room is not."""
        assert outcome.answer is not None
        size_bytes = outcome.answer.ByteSize() + _OVERHEAD_BYTES
        if size_bytes > self._max_bytes:
            return
        if key in self._entries:
            self._remove(key)
        self._entries[key] = _Entry(outcome, expires, size_bytes)
        self.size_bytes += size_bytes
        while self.size_bytes > self._max_bytes:
            self._remove(next(iter(self._entries)))

    def _remove(self, key: Key) -> None:
        self.size_bytes -= self._entries.pop(key).size_bytes


class NodeCache:
    """What is remembered of one node, while the model that said it is the last one seen."""

    def __init__(self, store: AnswerStore, node: str, lifetime_s: float) -> None:
        self._store = store
        self._node = node
        self._lifetime_s = lifetime_s
        self._model = b""
        self._retired: set[bytes] = set()
        self._hits, self._misses = CACHE_HITS.labels(node), CACHE_MISSES.labels(node)

    def get(self, tenant: str, digest: bytes) -> Outcome | None:
        """Returns the outcome to give again: no calls made, nothing computed."""
        now = asyncio.get_running_loop().time()
        key = (self._node, self._model, tenant, digest)
        found = self._store.get(key, now) if self._model else None
        (self._misses if found is None else self._hits).inc()
        return found

    def learn(self, tenant: str, digest: bytes, outcome: Outcome) -> None:
        """Takes note of a call's end: which model is there, and what it said."""
        if outcome.answer is None or outcome.ledger is None or not outcome.ledger.HasField("model"):
            return
        model = outcome.ledger.model.SerializeToString(deterministic=True)
        if model in self._retired:
            return
        if self._model and model != self._model:
            self._retired.add(self._model)
        self._model = model
        expires = asyncio.get_running_loop().time() + self._lifetime_s
        self._store.put((self._node, model, tenant, digest), without_work(outcome), expires)

    def forget(self) -> None:
        """Asks the service again which model it has: it may have been replaced."""
        self._model = b""
        self._retired.clear()


def without_work(outcome: Outcome) -> Outcome:
    """Returns `outcome` as of a call for which nothing was computed."""
    ledger = None
    if outcome.ledger is not None:
        ledger = type_pb2.Ledger(cached=True, replica=outcome.ledger.replica)
        if outcome.ledger.HasField("model"):
            ledger.model.CopyFrom(outcome.ledger.model)
    elif outcome.answer is not None:
        ledger = type_pb2.Ledger(cached=True)
    return outcome.given_again(ledger)
