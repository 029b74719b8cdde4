"""Memory that a server and a process beside it share, so that arrays need not go through a socket.

Values are pickled; the large buffers in them (of arrays, and of `Large` bytes) are put into this
memory one after the other, and what is left of the pickle is small. A buffer that does not fit
stays in the pickle.
"""

import mmap
import os
import pickle
import sys
import tempfile
from dataclasses import dataclass
from typing import Any

ALIGNED_BYTES = 64  # a line of the cache: where each buffer begins
HALF_BYTES = 16 * 1024 * 1024  # for one direction; only what was written takes memory
KEPT_BYTES = 1024 * 1024  # of one direction, when its work is done
_WHOLE_BYTES = 2 * HALF_BYTES + mmap.PAGESIZE
_PROTOCOL = 5  # the first with buffers apart

Spans = list[tuple[int, int]]  # start and end of each buffer


@dataclass(frozen=True, slots=True)
class Large:
    """Bytes that travel as a buffer, and arrive as bytes."""

    content: bytes

    def __reduce__(self) -> tuple[Any, ...]:
        return bytes, (pickle.PickleBuffer(self.content),)


class Half:
    """The memory of one direction: one side writes, the other reads."""

    def __init__(self, shared: mmap.mmap, start: int) -> None:
        self._shared, self._start, self._used = shared, start, 0
        self._memory = memoryview(shared)[start : start + HALF_BYTES]

    def clear(self) -> None:
        """Begins at the start again: nobody reads what was written any more."""
        if self._used > KEPT_BYTES and hasattr(mmap, "MADV_REMOVE"):
            end = -(-self._used // mmap.PAGESIZE) * mmap.PAGESIZE
            self._shared.madvise(mmap.MADV_REMOVE, self._start, end)
        self._used = 0

    def dump(self, value: Any) -> bytes:
        """Writes the buffers of a value here and returns the rest of it."""
        spans: Spans = []

        def has_no_room(buffer: pickle.PickleBuffer) -> bool:
            with buffer.raw() as raw:
                start, end = self._used, self._used + raw.nbytes
                if end > len(self._memory):
                    return True
                self._memory[start:end] = raw
            spans.append((start, end))
            self._used = -(-end // ALIGNED_BYTES) * ALIGNED_BYTES
            return False

        data = pickle.dumps(value, _PROTOCOL, buffer_callback=has_no_room)
        return pickle.dumps((spans, data), _PROTOCOL)

    def load(self, message: bytes, *, keep: bool) -> Any:
        """Returns the value; with `keep` its buffers are copied, else valid until the next one."""
        spans, data = pickle.loads(message)
        views = (self._memory[start:end] for start, end in spans)
        return pickle.loads(data, buffers=map(bytearray, views) if keep else views)


class Arena:
    """Both directions, and whether the work at hand is still wanted."""

    def __init__(self, fd: int) -> None:
        """Maps the memory behind `fd`, which may be closed after it."""
        shared = mmap.mmap(fd, _WHOLE_BYTES)
        self.work, self.answers = Half(shared, 0), Half(shared, HALF_BYTES)
        self._flag = memoryview(shared)[2 * HALF_BYTES :]

    @property
    def is_wanted(self) -> bool:
        return not self._flag[0]

    @is_wanted.setter
    def is_wanted(self, wanted: bool) -> None:
        self._flag[0] = not wanted


def new_memory() -> int:
    """Returns the descriptor of new memory for an `Arena`, all zero."""
    if sys.platform == "linux":
        fd = os.memfd_create("fomofeed")
    else:
        with tempfile.TemporaryFile() as file:
            fd = os.dup(file.fileno())
    os.ftruncate(fd, _WHOLE_BYTES)
    return fd
