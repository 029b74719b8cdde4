"""Reads of few profiles where the event loop stands, while they are short; else on a thread.

Handing a read to a thread and its rows back takes longer than reading them from memory. Reads that
took long one after another had to wait for the disk: the next ones go to a thread, and after a
while some try again. One alone may have waited for the interpreter, as a thread would have to.
"""

import time
from collections.abc import Callable, Sequence

from services.profile.profiles import Profile

MAX_PROFILES = 8  # of one read; about half a millisecond
SHORT_S = 0.002
LONG_COUNT = 3  # in a row: then they wait for the disk
AWAY_COUNT = 100  # reads that go to a thread after that

Read = Callable[[int], Profile | None]


class ShortReads:
    """Knows when reading here pays. Belongs to the event loop."""

    def __init__(self, read: Read, clock: Callable[[], float] = time.perf_counter) -> None:
        """`read` must not wait for a lock: it raises instead."""
        self._read = read
        self._clock = clock
        self._away = 0
        self._long = 0

    def takes(self, count: int) -> bool:
        """Whether a read of `count` profiles is made here; ask once for each read."""
        if self._away:
            self._away -= 1
            return False
        return count <= MAX_PROFILES

    def profiles(self, user_ids: Sequence[int]) -> list[Profile | None]:
        """Reads profiles in the order of the ids; raises what `read` raises."""
        started = self._clock()
        try:
            return [self._read(user_id) for user_id in user_ids]
        except Exception:
            self._away = AWAY_COUNT
            raise
        finally:
            self._long = self._long + 1 if self._clock() - started > SHORT_S else 0
            if self._long >= LONG_COUNT:
                self._away = AWAY_COUNT
