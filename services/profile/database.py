"""The store off the event loop: one thread writes, others read, none waits for the loop.

Writes that wait together are stored in one transaction, so that a crowd of streams shares the
flush to disk. A message that clashes with an earlier one fails alone. A deletion waits its turn
among the writes.
"""

import asyncio
import logging
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import AsyncExitStack, suppress
from datetime import UTC, datetime
from queue import Empty, SimpleQueue
from threading import local
from types import TracebackType
from typing import Self

from services.profile.config import ProfileConfig
from services.profile.events import Message
from services.profile.seed import demo_messages
from services.profile.store import Profile, Store, Stored
from serving.errors import ServingError

MAX_GROUP = 64  # messages in one transaction
RETENTION_EVERY_S = 86_400.0  # old events leave the log at the start, and then so often
DAY_US = 86_400_000_000
Clock = Callable[[], datetime]
_log = logging.getLogger(__name__)
_Pending = tuple[Message, asyncio.Future[Stored]]


class Database:
    """Async access to the profiles; an async context manager, used from one event loop.

    `clock` tells the aware time from which the age of an event counts.
    """

    def __init__(self, config: ProfileConfig, clock: Clock = lambda: datetime.now(UTC)) -> None:
        self._config = config
        self._clock = clock
        self._pending: SimpleQueue[_Pending] = SimpleQueue()
        self._stack = AsyncExitStack()
        self._thread = local()
        self._writer: ThreadPoolExecutor
        self._readers: ThreadPoolExecutor
        self._store: Store
        self._opened: list[Store] = []

    async def __aenter__(self) -> Self:
        async with AsyncExitStack() as stack:
            stack.callback(self._close)  # after the threads have ended
            self._writer = stack.enter_context(ThreadPoolExecutor(1, "profile-writer"))
            self._readers = stack.enter_context(
                ThreadPoolExecutor(
                    self._config.reader_count, "profile-reader", initializer=self._open_reader
                )
            )
            self._loop = asyncio.get_running_loop()
            self._store = await self._loop.run_in_executor(self._writer, self._open)
            if days := self._config.retention_days:
                await self._drop_reporting(days * DAY_US)
                retaining = self._loop.create_task(self._retain(days * DAY_US))
                stack.push_async_callback(_cancelled, retaining)
            self._stack = stack.pop_all()
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        await self._stack.aclose()

    async def profiles(self, user_ids: Sequence[int]) -> list[Profile | None]:
        """Reads profiles in the order of the ids; None for those of whom no event came."""
        return await self._loop.run_in_executor(self._readers, self._read, tuple(user_ids))

    async def ingest(self, message: Message) -> Stored:
        """Stores a message; returns when it is on disk. Raises what `Store.ingest` raises.

        A caller who leaves does not undo it: the message is stored, and its repetition counted so.
        """
        future: asyncio.Future[Stored] = self._loop.create_future()
        self._pending.put((message, future))
        self._loop.run_in_executor(self._writer, self._write)
        return await future

    async def delete(self, user_id: int) -> bool:
        """Deletes a user; says whether the user was there. Raises what `Store.delete` raises."""
        return await self._loop.run_in_executor(self._writer, self._store.delete, user_id)

    async def drop_old_events(self, kept_us: int) -> int:
        """Drops events older than `kept_us` from the log; returns how many."""
        now_us = int(self._clock().timestamp() * 1e6)
        drop = self._store.drop_events
        return await self._loop.run_in_executor(self._writer, drop, now_us, kept_us)

    async def _retain(self, kept_us: int) -> None:
        while True:
            await asyncio.sleep(RETENTION_EVERY_S)
            await self._drop_reporting(kept_us)

    async def _drop_reporting(self, kept_us: int) -> None:
        try:
            _log.info("dropped %d old events from the log", await self.drop_old_events(kept_us))
        except Exception:  # the boundary: a full disk today must not end it for tomorrow
            _log.exception("old events could not be dropped")

    def _open(self) -> Store:
        store = Store(self._config.database, is_synced=self._config.is_synced)
        self._opened.append(store)
        store.erase()
        if self._config.seed_demo_users and store.is_empty():
            store.ingest(demo_messages())
        return store

    def _open_reader(self) -> None:
        self._thread.store = Store(self._config.database)
        self._opened.append(self._thread.store)

    def _close(self) -> None:
        for store in self._opened:
            store.close()

    def _read(self, user_ids: tuple[int, ...]) -> list[Profile | None]:
        store: Store = self._thread.store
        return [store.profile(user_id) for user_id in user_ids]

    def _write(self) -> None:
        group = self._take()
        if not group:
            return  # an earlier round took this one's message too
        try:
            stored = self._store.ingest(message for message, _ in group)
        except ServingError:
            for entry in group:
                self._write_alone(entry)
        except BaseException as error:
            self._tell([(future, error) for _, future in group])
        else:
            self._tell([(entry[1], one) for entry, one in zip(group, stored, strict=True)])

    def _write_alone(self, entry: _Pending) -> None:
        try:
            (stored,) = self._store.ingest([entry[0]])
        except Exception as error:
            self._tell([(entry[1], error)])
        else:
            self._tell([(entry[1], stored)])

    def _take(self) -> list[_Pending]:
        group: list[_Pending] = []
        while len(group) < MAX_GROUP:
            try:
                group.append(self._pending.get_nowait())
            except Empty:
                break
        return group

    def _tell(self, answers: list[tuple[asyncio.Future[Stored], Stored | BaseException]]) -> None:
        self._loop.call_soon_threadsafe(_resolve, answers)


async def _cancelled(task: asyncio.Task[None]) -> None:
    task.cancel()
    with suppress(asyncio.CancelledError):
        await task


def _resolve(answers: list[tuple[asyncio.Future[Stored], Stored | BaseException]]) -> None:
    for future, answer in answers:
        if future.done():
            continue  # the caller has gone
        if isinstance(answer, BaseException):
            future.set_exception(answer)
        else:
            future.set_result(answer)
