"""What became of each call of a schedule. Exact: four numbers a call, bounded by the schedule.

A histogram would save memory at the price of an error; a minute at 5,000 calls a second is 8 MB.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import grpc
import numpy as np
from numpy.typing import NDArray

CODES = [code.name for code in sorted(grpc.StatusCode, key=lambda code: code.value[0])]
OK = CODES.index("OK")
DEGRADED = len(CODES)  # the call was OK, and its answer says that a part was substituted
LABELS = (*CODES, "OK_DEGRADED")


@dataclass(slots=True)
class Outcomes:
    """Columns over the calls of one schedule, in its order.

    `intended`, `sent` and `ended` are seconds from the start of the schedule, NaN for what was not
    reached; `status` is an index into `LABELS`, -1 for a call that never ended.
    """

    intended: NDArray[np.float64]
    sent: NDArray[np.float64]
    ended: NDArray[np.float64]
    status: NDArray[np.int8]

    @classmethod
    def of(cls, offsets: NDArray[np.float64]) -> "Outcomes":
        """Makes the empty outcomes of a schedule."""
        calls = len(offsets)
        status = np.full(calls, -1, np.int8)
        return cls(offsets, np.full(calls, np.nan), np.full(calls, np.nan), status)

    def __len__(self) -> int:
        return len(self.intended)

    @property
    def latency(self) -> NDArray[np.float64]:
        """Seconds from the intended time to the end: waiting for a late client counts."""
        return self.ended - self.intended

    @property
    def lag(self) -> NDArray[np.float64]:
        """Seconds by which the client was late with each call that it sent."""
        lag = self.sent - self.intended
        return lag[~np.isnan(lag)]

    @property
    def is_ok(self) -> NDArray[np.bool_]:
        return np.isin(self.status, (OK, DEGRADED))

    def since(self, start: float) -> "Outcomes":
        """Returns the calls that were meant for `start` or later."""
        kept = self.intended >= start
        return Outcomes(self.intended[kept], self.sent[kept], self.ended[kept], self.status[kept])

    def counts(self) -> dict[str, int]:
        """Returns how many calls ended in each status; UNANSWERED for those that never ended."""
        values, counts = np.unique(self.status, return_counts=True)
        return {
            LABELS[value] if value >= 0 else "UNANSWERED": int(count)
            for value, count in zip(values, counts, strict=True)
        }


def join(parts: Sequence[Outcomes]) -> Outcomes:
    """Returns all calls of several processes in the order of their intended times."""
    intended = np.concatenate([part.intended for part in parts])
    order = np.argsort(intended, kind="stable")
    return Outcomes(
        intended[order],
        np.concatenate([part.sent for part in parts])[order],
        np.concatenate([part.ended for part in parts])[order],
        np.concatenate([part.status for part in parts])[order],
    )
