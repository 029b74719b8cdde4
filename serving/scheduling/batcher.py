"""Dynamic batching: the scheduler on an event loop.

An idle instance never waits: a request that finds one runs in the same turn of the loop, together
with whatever else arrived in that turn. While all are busy requests collect, and an instance that
ends a batch cuts the next one at once, on its own thread if it has one (`cut_ahead`): it would wait
a millisecond for an event loop that answers the callers of the last. There is no timer but the one
that answers expired requests. Work so short that handing it over would cost more runs where it
stands (`Shortcut`).

A cancelled caller is taken out of the queue, or, when its batch runs, its answer is dropped: its
batch mates never notice. A batch that fails is halved until the bad request fails alone; one
that is too large for the device is halved and the limit remembered.
"""

import asyncio
import logging
import math
import threading
import uuid
from collections import deque
from collections.abc import Hashable, Sequence
from dataclasses import dataclass, field
from types import TracebackType
from typing import Any, Generic

from serving.errors import DeadlineError, EngineError, NotReadyError, QueueFullError, ServingError
from serving.request import Criticality, LedgerBuilder
from serving.scheduling.instances import Answer, BatchTooLargeError, Infer, Item, Shortcut
from serving.scheduling.metrics import BatcherMetrics
from serving.scheduling.queue import Entry
from serving.scheduling.scheduler import Batch, BatchingConfig, Scheduler

log = logging.getLogger(__name__)


@dataclass(slots=True)
class _Run:
    """What an instance runs: the batch begun last, unless in parts, and those that it cut ahead."""

    begun: Batch | None = None
    ahead: deque[Batch] = field(default_factory=deque)


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
        self._runs: list[_Run] = [_Run() for _ in infers]
        self._lock = threading.Lock()  # of the scheduler: instances cut ahead on their threads
        self._tasks: set[asyncio.Task[None]] = set()
        self._timer: asyncio.TimerHandle | None = None
        self._dispatching, self._closed = False, True
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
        with self._lock:
            waiting = self.scheduler.queue.expire(math.inf)
        for entry in waiting:
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
        work: int = 0,
    ) -> Answer:
        """Returns the answer to `item` of `rows` rows (at most a batch) and `work`, 0 for the rows.

        Raises `QueueFullError` or `DeadlineError` at once when it cannot be answered in time,
        `EngineError` when the engine fails on it, `NotReadyError` when the batcher is closing.
        Cancelling the caller takes the request back; nobody else notices.
        """
        if self._closed:
            raise NotReadyError("draining")
        now = self._loop.time()
        if deadline > now and (shortcut := self._shortcut(item)):
            try:
                return self._take(shortcut, item, rows, ledger)
            except BatchTooLargeError:
                pass  # as a batch it is sliced, and the limit remembered
        answer: asyncio.Future[Answer] = self._loop.create_future()
        entry = self.scheduler.entry(
            _Pending(item, answer, ledger),
            now,
            rows=rows,
            cost=cost,
            bucket=bucket,
            deadline=deadline,
            criticality=criticality,
            work=work,
        )
        try:
            with self._lock:
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
            with self._lock:
                self.scheduler.queue.remove(entry)
            raise

    def cut_ahead(self, instance: int) -> list[Item] | None:
        """Ends the batch that an instance runs and returns the items of the next, if any waits.

        For an `infer` whose engine call has returned, on any thread: it may begin with these items
        at once, and gives their answers to the next call of `infer`, which will bring the same.
        """
        run = self._runs[instance]
        if not run.begun or not self.scheduler.queue.rows:
            return None
        with self._lock:
            now = self._loop.time()
            self.scheduler.finish(run.begun, now)
            run.begun, dropped = self.scheduler.take(now)
        if dropped:
            self._loop.call_soon_threadsafe(self._drop, dropped)
        if not run.begun:
            return None
        run.ahead.append(run.begun)
        return [entry.item.item for entry in run.begun.entries]

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
        queue = self.scheduler.queue
        if not queue.rows:
            return None
        with self._lock:
            batch, dropped = self.scheduler.take(self._loop.time())
            earliest = queue.next_deadline()
        self._drop(dropped)
        self._arm(earliest)
        return batch

    def _drop(self, entries: list[Entry]) -> None:
        for entry in entries:
            self._fail(entry, DeadlineError.expired())

    async def _serve(self, instance: int, batch: Batch | None) -> None:
        """Keeps one instance busy until nothing waits for it."""
        run = self._runs[instance]
        run.begun = batch
        try:
            while batch:
                await self._run(self._infers[instance], batch, run)
                if run.ahead:
                    batch = run.ahead.popleft()
                else:
                    batch = run.begun = self._cut()
        finally:
            self._idle.append(instance)

    async def _run(self, infer: Infer[Item, Answer], batch: Batch, run: _Run) -> None:
        whole = False
        try:
            whole = await self._answer(infer, batch, run)
        finally:
            if batch.end is None:  # no other was cut ahead
                with self._lock:
                    self.scheduler.finish(batch, self._loop.time(), learn=whole)
            self._metrics.ran(batch.rows, batch.seconds(self._loop.time()))

    async def _answer(self, infer: Infer[Item, Answer], batch: Batch, run: _Run) -> bool:
        """Runs entries as one engine call; True when it succeeded as a whole."""
        try:
            answers = await infer([entry.item.item for entry in batch.entries])
            if len(answers) != len(batch.entries):
                raise EngineError(f"{len(answers)} answers for {len(batch.entries)} requests")
        except Exception as error:  # the boundary: reported to a caller, never to the loop
            await self._failed(infer, batch, run, error)
            return False
        seconds = batch.seconds(self._loop.time())
        for entry, answer in zip(batch.entries, answers, strict=True):
            self._succeed(entry, answer, batch, seconds)
        return True

    async def _failed(
        self, infer: Infer[Item, Answer], batch: Batch, run: _Run, error: Exception
    ) -> None:
        run.begun = None  # its parts come first
        entries = batch.entries
        shrunk = isinstance(error, BatchTooLargeError) and self._shrink(batch)
        if shrunk and len(entries) == 1 and batch.rows > 1:  # an `infer` may slice it by the limit
            await self._answer(infer, Batch.of(entries, self._loop.time()), run)
        elif len(entries) == 1 or run.ahead:  # no second try past the batch that runs already
            shown = self._shown(error)
            for entry in entries:
                self._fail(entry, shown)
        else:
            middle = len(entries) // 2  # the bad request is found by halving, and fails alone
            for half in (entries[:middle], entries[middle:]):
                if wanted := self._still_wanted(half):
                    await self._answer(infer, Batch.of(wanted, self._loop.time()), run)

    def _shrink(self, batch: Batch) -> bool:
        bucket, work = batch.entries[0].bucket, batch.work
        with self._lock:
            fitting = self.scheduler.fitting_work(bucket)
            if len(batch.entries) == 1 and work > fitting:  # it ran in slices of that
                work = int(fitting)
            limit = self.scheduler.shrink(bucket, work)
        if limit:
            log.warning("%s: out of memory, %s limited to %d", self._name, bucket, limit)
        return limit > 0

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

    def _succeed(self, entry: Entry, answer: Answer, batch: Batch, seconds: float) -> None:
        pending: _Pending = entry.item
        waited_s = batch.start - entry.arrival
        self._metrics.waited(waited_s)
        if pending.ledger:
            pending.ledger.queue_s += waited_s
            pending.ledger.compute_s += seconds
            pending.ledger.batch_rows = batch.rows
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
        with self._lock:
            expired = self.scheduler.queue.expire(self._loop.time())
            earliest = self.scheduler.queue.next_deadline()
        self._drop(expired)
        self._arm(earliest)
