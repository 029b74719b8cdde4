"""Dynamic batching: the scheduler on an event loop.

An idle instance never waits: a request that finds one runs in the same turn of the loop, together
with whatever else arrived in that turn. While all are busy requests collect, and an instance that
ends a batch cuts the next one in the same turn. There is no timer but the one that answers expired
requests. Work so short that handing it over would cost more runs where it stands (`Shortcut`).

A cancelled caller is taken out of the queue, or, when its batch runs, its answer is dropped: its
batch mates never notice. A batch that fails is halved until the bad request fails alone; one
that is too large for the device is halved and the limit remembered.
"""

import asyncio
import logging
import math
import uuid
from collections.abc import Awaitable, Callable, Hashable, Sequence
from contextlib import suppress
from dataclasses import dataclass
from types import TracebackType
from typing import Any, Generic, Protocol, TypeVar

from serving.errors import DeadlineError, EngineError, NotReadyError, QueueFullError, ServingError
from serving.request import Criticality, LedgerBuilder
from serving.scheduling.metrics import BatcherMetrics
from serving.scheduling.queue import Entry
from serving.scheduling.scheduler import Batch, BatchingConfig, Scheduler

log = logging.getLogger(__name__)

Item = TypeVar("Item")
Item_contra = TypeVar("Item_contra", contravariant=True)
Answer = TypeVar("Answer")
Answer_co = TypeVar("Answer_co", covariant=True)
Infer = Callable[[list[Item]], Awaitable[Sequence[Answer]]]


class Shortcut(Protocol[Item_contra, Answer_co]):
    """Runs requests on the event loop that are done sooner than handed over to an instance."""

    def is_shorter(self, item: Item_contra) -> bool:
        """Whether `infer` takes less time than the way to an instance and back."""
        ...

    def infer(self, item: Item_contra) -> Answer_co:
        """Answers one request; only called while an instance is idle, in its place."""
        ...


class BatchTooLargeError(Exception):
    """Raised by an `infer` whose device has no memory for the batch; smaller ones may fit."""


@dataclass(slots=True)
class _Pending:
    """A request's way back to its caller."""

    item: Any
    answer: asyncio.Future[Any]
    ledger: LedgerBuilder | None


class Batcher(Generic[Item, Answer]):
    """Batches requests for the instances behind `infers`; an async context manager.

    An `infer` gets the items of one batch and returns as many answers, in their order. It is never
    called twice at the same time. Belongs to one event loop.
    """

    def __init__(
        self,
        infers: Sequence[Infer[Item, Answer]],
        config: BatchingConfig,
        name: str = "batcher",
        shortcuts: Sequence[Shortcut[Item, Answer]] = (),
    ) -> None:
        self.scheduler = Scheduler(config, instances=len(infers))
        self._infers, self._shortcuts = infers, shortcuts
        self._idle = list(range(len(infers)))
        self._tasks: set[asyncio.Task[None]] = set()
        self._timer: asyncio.TimerHandle | None = None
        self._dispatching = False
        self._closed = True
        self._name = name
        self._metrics = BatcherMetrics(name, self.scheduler)

    async def __aenter__(self) -> "Batcher[Item, Answer]":
        self._loop = asyncio.get_running_loop()
        self._closed = False
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._closed = True
        if self._timer:
            self._timer.cancel()
        for entry in list(self.scheduler.queue):
            self.scheduler.queue.remove(entry)
            self._fail(entry, NotReadyError("draining"))
        while self._tasks:  # a running engine call cannot be stopped, only awaited
            await asyncio.wait(self._tasks)

    def announce(self) -> None:
        """Tells of this batcher's queue and times, under its name, from now on."""
        self._metrics.announce()

    async def submit(
        self,
        item: Item,
        *,
        rows: int = 1,
        cost: float = 1.0,
        bucket: Hashable = None,
        deadline: float = math.inf,
        criticality: Criticality = Criticality.DEFAULT,
        ledger: LedgerBuilder | None = None,
    ) -> Answer:
        """Returns the answer to `item`, which counts as `rows` rows of a batch (at most a batch).

        Raises `QueueFullError` or `DeadlineError` at once when it cannot be answered in time,
        `EngineError` when the engine fails on it, `NotReadyError` when the batcher is closing.
        Cancelling the caller takes the request back; nobody else notices.
        """
        if self._closed:
            raise NotReadyError("draining")
        now = self._loop.time()
        if deadline > now and (shortcut := self._shortcut(item)):
            with suppress(BatchTooLargeError):
                return self._take(shortcut, item, rows, ledger)
        answer: asyncio.Future[Answer] = self._loop.create_future()
        entry = self.scheduler.entry(
            _Pending(item, answer, ledger),
            now,
            rows=rows,
            cost=cost,
            bucket=bucket,
            deadline=deadline,
            criticality=criticality,
        )
        try:
            evicted = self.scheduler.admit(entry, now)
        except ServingError as error:
            self._metrics.refused(error)
            raise
        for victim in evicted:
            self._fail(victim, QueueFullError("queue", "displaced by a higher class", 0.1))
        self._request_dispatch(entry)
        try:
            return await answer
        except asyncio.CancelledError:
            self.scheduler.queue.remove(entry)
            raise

    def _shortcut(self, item: Item) -> Shortcut[Item, Answer] | None:
        """The one of an idle instance, if nobody waits and it is shorter than the way there."""
        if not self._shortcuts or not self._idle or self.scheduler.queue.rows:
            return None
        shortcut = self._shortcuts[self._idle[-1]]
        return shortcut if shortcut.is_shorter(item) else None

    def _take(
        self,
        shortcut: Shortcut[Item, Answer],
        item: Item,
        rows: int,
        ledger: LedgerBuilder | None,
    ) -> Answer:
        start = self._loop.time()
        try:
            answer = shortcut.infer(item)
        except BatchTooLargeError:
            raise
        except Exception as error:  # the boundary, as for a batch
            self._metrics.refused(shown := self._shown(error))
            raise shown from None
        seconds = self._loop.time() - start
        self._metrics.waited(0.0)
        self._metrics.ran(rows, seconds)
        if ledger:
            ledger.compute_s += seconds
            ledger.batch_rows = rows
        return answer

    def _request_dispatch(self, entry: Entry | None = None) -> None:
        """Dispatches later in this turn of the loop: what arrives together runs together."""
        if self._idle and not self._dispatching:
            self._dispatching = True
            self._loop.call_soon(self._dispatch)
        elif entry and entry.deadline < math.inf:
            self._arm(entry.deadline)

    def _dispatch(self) -> None:
        self._dispatching = False
        while self._idle and (batch := self._cut()):
            task = self._loop.create_task(self._serve(self._idle.pop(), batch))
            self._tasks.add(task)
            task.add_done_callback(self._tasks.discard)

    def _cut(self) -> Batch | None:
        """Takes the next batch out of the queue; None when nothing waits."""
        if not self.scheduler.queue.rows:
            return None
        batch, dropped = self.scheduler.take(self._loop.time())
        for entry in dropped:
            self._fail(entry, DeadlineError.expired())
        if self.scheduler.queue.rows:
            self._arm(self.scheduler.queue.next_deadline())
        return batch

    async def _serve(self, instance: int, batch: Batch | None) -> None:
        """Keeps one instance busy until nothing waits for it."""
        try:
            while batch:
                await self._run(self._infers[instance], batch)
                batch = self._cut()
        finally:
            self._idle.append(instance)

    async def _run(self, infer: Infer[Item, Answer], batch: Batch) -> None:
        whole = False
        try:
            whole = await self._answer(infer, batch.entries, batch.start)
        finally:
            now = self._loop.time()
            self.scheduler.finish(batch, now, learn=whole)
            self._metrics.ran(batch.rows, now - batch.start)

    async def _answer(self, infer: Infer[Item, Answer], entries: list[Entry], start: float) -> bool:
        """Runs entries as one engine call; True when it succeeded as a whole."""
        try:
            answers = await infer([entry.item.item for entry in entries])
            if len(answers) != len(entries):
                raise EngineError(f"{len(answers)} answers for {len(entries)} requests")
        except Exception as error:  # the boundary: reported to a caller, never to the loop
            await self._failed(infer, entries, error)
            return False
        seconds = self._loop.time() - start
        rows = sum(entry.rows for entry in entries)
        for entry, answer in zip(entries, answers, strict=True):
            self._succeed(entry, answer, start, seconds, rows)
        return True

    async def _failed(
        self, infer: Infer[Item, Answer], entries: list[Entry], error: Exception
    ) -> None:
        shrunk = isinstance(error, BatchTooLargeError) and self._shrink(entries)
        if len(entries) == 1:
            if shrunk and entries[0].rows > 1:  # an `infer` may slice one request by the limit
                await self._answer(infer, entries, self._loop.time())
            else:
                self._fail(entries[0], self._shown(error))
            return
        middle = len(entries) // 2  # the bad request is found by halving, and fails alone
        for half in (entries[:middle], entries[middle:]):
            if wanted := self._still_wanted(half):
                await self._answer(infer, wanted, self._loop.time())

    def _shrink(self, entries: list[Entry]) -> bool:
        rows = sum(entry.rows for entry in entries)
        if len(entries) == 1:  # one large request runs in slices of the limit
            rows = min(rows, self.scheduler.max_rows)
        shrunk = self.scheduler.shrink(rows)
        if shrunk:
            limit = self.scheduler.max_rows
            log.warning("%s: out of memory, batches limited to %d rows", self._name, limit)
        return shrunk

    def _still_wanted(self, entries: list[Entry]) -> list[Entry]:
        now = self._loop.time()
        for entry in entries:
            if entry.deadline <= now:
                self._fail(entry, DeadlineError.expired())
        return [entry for entry in entries if not entry.item.answer.done()]

    def _shown(self, error: Exception) -> ServingError:
        if isinstance(error, ServingError):
            return error
        if isinstance(error, BatchTooLargeError):
            return EngineError(f"{self._name}: out of memory for a single request")
        incident = uuid.uuid4().hex[:12]
        log.error("%s: engine failed, incident %s", self._name, incident, exc_info=error)
        return EngineError(f"{self._name} failed", incident)

    def _succeed(
        self, entry: Entry, answer: Answer, start: float, seconds: float, rows: int
    ) -> None:
        pending: _Pending = entry.item
        self._metrics.waited(start - entry.arrival)
        if pending.ledger:
            pending.ledger.queue_s += start - entry.arrival
            pending.ledger.compute_s += seconds
            pending.ledger.batch_rows = rows
        if not pending.answer.done():  # the caller may have gone
            pending.answer.set_result(answer)

    def _fail(self, entry: Entry, error: ServingError) -> None:
        if not entry.item.answer.done():
            self._metrics.refused(error)
            entry.item.answer.set_exception(error)

    def _arm(self, deadline: float) -> None:
        """Sets the one timer to the earliest deadline that waits."""
        if deadline == math.inf or (self._timer and self._timer.when() <= deadline):
            return
        if self._timer:
            self._timer.cancel()
        self._timer = self._loop.call_at(deadline, self._expire)

    def _expire(self) -> None:
        self._timer = None
        for entry in self.scheduler.queue.expire(self._loop.time()):
            self._fail(entry, DeadlineError.expired())
        self._arm(self.scheduler.queue.next_deadline())
