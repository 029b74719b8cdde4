"""Old events leave the log when the server starts and then once a day."""

import asyncio
import logging
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager, suppress
from datetime import datetime

from services.profile.profiles import ProfileStore

EVERY_S = 86_400.0
DAY_US = 86_400_000_000
Clock = Callable[[], datetime]
_log = logging.getLogger(__name__)


@asynccontextmanager
async def retaining(store: ProfileStore, days: int, clock: Clock) -> AsyncIterator[None]:
    """Keeps the log of a store `days` long while the block runs; 0 keeps all.

    `clock` tells the aware time from which the age of an event counts.
    """
    if not days:
        yield
        return
    await _drop(store, days, clock)
    task = asyncio.create_task(_drop_daily(store, days, clock))
    try:
        yield
    finally:
        task.cancel()
        with suppress(asyncio.CancelledError):
            await task


async def _drop_daily(store: ProfileStore, days: int, clock: Clock) -> None:
    while True:
        await asyncio.sleep(EVERY_S)
        await _drop(store, days, clock)


async def _drop(store: ProfileStore, days: int, clock: Clock) -> None:
    try:
        count = await store.drop_events(int(clock().timestamp() * 1e6), days * DAY_US)
        _log.info("dropped %d old events from the log", count)
    except Exception:  # the boundary: a full disk today must not end it for tomorrow
        _log.exception("old events could not be dropped")
