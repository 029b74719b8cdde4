"""When calls are sent: offsets in seconds from the start, ascending, float64 of shape (calls,)."""

from pathlib import Path

import numpy as np
from numpy.typing import NDArray

MAX_CALLS = 20_000_000  # of one schedule: what a measurement may hold in memory

Offsets = NDArray[np.float64]


class ScheduleError(ValueError):
    """The schedule asked for cannot be made; the message says why."""


def poisson(rate: float, seconds: float, seed: int) -> Offsets:
    """Returns independent arrivals at `rate` a second; the same seed gives the same ones.

    Given their number, the arrivals of a Poisson process are uniform: one draw, then a sort.
    """
    _check(rate, seconds)
    rng = np.random.default_rng(seed)
    return np.sort(rng.uniform(0.0, seconds, rng.poisson(rate * seconds)))


def constant(rate: float, seconds: float) -> Offsets:
    """Returns evenly spaced arrivals; the first at 0, the last before `seconds`."""
    _check(rate, seconds)
    return np.arange(np.ceil(rate * seconds)) / rate


def read_trace(path: Path) -> Offsets:
    """Reads a trace: one time in seconds a line, # begins a comment; the earliest becomes 0."""
    try:
        lines = [line.partition("#")[0].strip() for line in path.read_text().splitlines()]
        times = np.array([float(line) for line in lines if line])
    except (OSError, ValueError) as error:
        raise ScheduleError(f"cannot read the trace {path}: {error}") from None
    if not times.size or not np.isfinite(times).all():
        raise ScheduleError(f"{path} holds no times: one number a line, in seconds")
    if times.size > MAX_CALLS:
        raise ScheduleError(f"{path} has {times.size} calls, at most {MAX_CALLS}")
    offsets: Offsets = np.sort(times) - times.min()
    return offsets


def share(offsets: Offsets, index: int, count: int) -> Offsets:
    """Returns what process `index` of `count` sends; all shares together are the schedule."""
    return offsets[index::count]


def _check(rate: float, seconds: float) -> None:
    if not (rate > 0 and seconds > 0 and np.isfinite(rate * seconds)):
        raise ScheduleError(f"rate {rate:g} and seconds {seconds:g} are > 0")
    if rate * seconds > MAX_CALLS:
        raise ScheduleError(f"{rate * seconds:.0f} calls, at most {MAX_CALLS}")
