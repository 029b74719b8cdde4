"""The store beside the event loop: one thread writes, others read, none waits for the loop.

Short reads are made by the loop itself (`ShortReads`).
Writes that wait together are stored in one transaction, so that a crowd of streams shares the
flush to disk. A message that clashes with an earlier one fails alone. A deletion waits its turn
among the writes.
"""

import asyncio
import logging
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import AsyncExitStack, suppress
from queue import Empty, SimpleQueue
from threading import local
from types import TracebackType
from typing import Self

from services.profile.config import ProfileConfig
from services.profile.events import Message
from services.profile.profiles import Profile, Stored
from services.profile.seed import demo_messages
from services.profile.sqlite.short_reads import ShortReads
from services.profile.sqlite.store import Store
from serving.errors import NotReadyError, ServingError

MAX_GROUP = 64  # messages in one transaction
_log = logging.getLogger(__name__)
_Pending = tuple[Message, asyncio.Future[Stored]]


class SqliteDatabase:
    """A `ProfileStore` in an SQLite file; an async context manager."""

    def __init__(self, config: ProfileConfig) -> None:
        self._config = config
        self._pending: SimpleQueue[_Pending] = SimpleQueue()
        self._stack = AsyncExitStack()
        self._thread = local()
        self._writer: ThreadPoolExecutor
        self._readers: ThreadPoolExecutor
        self._store: Store
        self._short: ShortReads
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
            self._short = await self._loop.run_in_executor(self._writer, self._open_short)
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
        """See `ProfileStore.profiles`."""
        if self._short.takes(len(user_ids)):
            with suppress(NotReadyError):  # locked: a thread can wait for it
                return self._short.profiles(user_ids)
        return await self._loop.run_in_executor(self._readers, self._read, tuple(user_ids))

    async def ingest(self, message: Message) -> Stored:
        """See `ProfileStore.ingest`.

        A caller who leaves does not undo it: the message is stored, and its repetition counted so.
        """
        future: asyncio.Future[Stored] = self._loop.create_future()
        self._pending.put((message, future))
        self._loop.run_in_executor(self._writer, self._write)
        return await future

    async def delete(self, user_id: int) -> bool:
        """See `ProfileStore.delete`."""
        return await self._loop.run_in_executor(self._writer, self._store.delete, user_id)

    async def drop_events(self, now_us: int, kept_us: int) -> int:
        """See `ProfileStore.drop_events`."""
        drop = self._store.drop_events
        return await self._loop.run_in_executor(self._writer, drop, now_us, kept_us)

    def _open(self) -> Store:
        store = Store(self._config.path, is_synced=self._config.is_synced)
        self._opened.append(store)
        try:
            store.erase()
        except NotReadyError as error:
            _log.warning("deleted users remain in files until the next deletion: %s", error)
        if self._config.seed_demo_users and store.is_empty():
            store.ingest(demo_messages())
        return store

    def _open_reader(self) -> None:
        self._thread.store = Store(self._config.path)
        self._opened.append(self._thread.store)

    def _open_short(self) -> ShortReads:
        store = Store(self._config.path, patience_ms=0)
        self._opened.append(store)
        return ShortReads(store.profile)

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


def _resolve(answers: list[tuple[asyncio.Future[Stored], Stored | BaseException]]) -> None:
    for future, answer in answers:
        if future.done():
            continue  # the caller has gone
        if isinstance(answer, BaseException):
            future.set_exception(answer)
        else:
            future.set_result(answer)
