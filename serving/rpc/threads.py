"""How gRPC's own threads share the processors with the event loop that they wake."""

import os
from collections.abc import Iterator
from contextlib import contextmanager, suppress


@contextmanager
def started_patient() -> Iterator[None]:
    """Threads that are started within, and those that they start, interrupt nobody when they wake.

    For gRPC's: what the event loop sends wakes them on its own processor, in the middle of its
    work, five times a call. Under `SCHED_BATCH` (Linux, sched(7)) they run when it sleeps, on
    another processor, or when their share is due, and find several events at once. An engine that
    has all processors for itself may hold them up until the next tick of the clock, 1 to 4 ms.
    Without effect where the system knows no such policy, forbids it, or the operator has set
    another.
    """
    usual = _patient()
    try:
        yield
    finally:
        if usual is not None:
            os.sched_setscheduler(0, usual, os.sched_param(0))


def _patient() -> int | None:
    """Makes the calling thread patient; returns the policy it had, None if it still has it."""
    if not hasattr(os, "SCHED_BATCH") or os.sched_getscheduler(0) != os.SCHED_OTHER:
        return None
    with suppress(OSError):
        os.sched_setscheduler(0, os.SCHED_BATCH, os.sched_param(0))
        return os.SCHED_OTHER
    return None
