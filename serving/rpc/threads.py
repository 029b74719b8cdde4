"""How the thread that wakes the event loop shares a processor with it."""

import os
import threading
from collections.abc import Iterator
from contextlib import contextmanager, suppress


@contextmanager
def started_patient() -> Iterator[None]:
    """Python's threads that are started within interrupt nobody when they wake.

    For gRPC's poller, which tells the event loop what has happened: a call wakes it five times, on
    the loop's own processor, in the middle of its work. Under `SCHED_BATCH` (Linux, sched(7)) it
    runs when the loop sleeps, on another processor, or when its share is due, and tells of several
    events at once. The loop could not have heard of them earlier. gRPC's other threads, which are
    not Python's, read and write sockets meanwhile: were they as patient, answers that come back
    together would wait for the loop to handle the first. Without effect where the system knows no
    such policy or forbids it, and on threads to which another was given.
    """
    before = set(threading.enumerate())
    yield
    for thread in set(threading.enumerate()) - before:
        _make_patient(thread)


def _make_patient(thread: threading.Thread) -> None:
    if thread.native_id is None or not hasattr(os, "SCHED_BATCH"):
        return
    with suppress(OSError):
        if os.sched_getscheduler(thread.native_id) == os.SCHED_OTHER:
            os.sched_setscheduler(thread.native_id, os.SCHED_BATCH, os.sched_param(0))
