"""How fast this server answers, told to its clients: the load report of ORCA, in trailers.

A client whose policy is `weighted_round_robin` (gRFC A58; `serving.rpc.channels`) gives a server
calls in proportion to rps / utilization of the latest `endpoint-load-metrics-bin` that came with an
answer. Ours makes that quotient 1 / (time x work), both seconds per good answer:

- time is what calls spend in the server, by Little's law: how many are in the air over how many are
  answered a second. It counts those that have not ended, and those whose caller has left, so a
  server that hangs looks slow at once, and one whose calls are all hedged away looks no faster;
- work is the time of those that have ended without the wait in a model's queue. It tells a slow
  server from a busy one.

For a server that is k times slower than the others both are k times longer, so it gets 1 / k^2 of
their calls. With 1 / k one of three that is 5 times slower would keep a call in eleven, more than
hedging may make twice (5 %); with 1 / k^2 one that is 3.2 times slower or more keeps less than 5 %.
It keeps a hundredth of the mean, the least that gRPC gives, and so is found again when it is fast.

A queue makes time depend on the calls that a server gets, and weights that follow such a measure
too quickly swing: the favoured one fills up, then the other. So sums fade over 20 s, 20 times the
period in which clients renew their weights; queues alone enter only once. Fading is by time, and
all sums alike: a server that was idle keeps its figures, and its next calls soon outweigh them.

A failure is worth no answer and costs as much time as one, so a broken server that fails at once
does not look fast. A server tells nothing in its first 10 s of calls, while caches and engines are
cold: a client gives it the mean until then, and does not have to wait itself when it connects anew.
What nobody sees here are the network and the queue before the event loop.
"""

import math

import grpc

from fomofeed.type.v1 import type_pb2

LOAD_REPORT_KEY = "endpoint-load-metrics-bin"
RENEWED_AFTER_S = 0.1  # the same bytes until then: made once, and compressed to a byte or two
_MOST_CALLS_AN_ANSWER = 100  # as if at least one of so many were answered
_LEAST_CALLS = 1e-9  # of which hours of idling leave less
_LEAST_S = 1e-7

Entries = tuple[tuple[str, bytes], ...]  # of trailing metadata: none or one
_OK = grpc.StatusCode.OK
_OWN_FAULTS = frozenset(
    {
        grpc.StatusCode.UNAVAILABLE,
        grpc.StatusCode.RESOURCE_EXHAUSTED,
        grpc.StatusCode.DEADLINE_EXCEEDED,
        grpc.StatusCode.INTERNAL,
        grpc.StatusCode.DATA_LOSS,
        grpc.StatusCode.UNKNOWN,
    }
)


class _Sums:
    """What has been since some moment."""

    __slots__ = ("answers", "failures", "spent_s", "worked_s")

    def __init__(self) -> None:
        self.spent_s = 0.0  # by all calls together, ended or not
        self.worked_s = 0.0  # by those that have ended, but in queues
        self.answers = self.failures = 0.0

    def fade(self, share: float, newer: "_Sums") -> None:
        """Keeps `share` of what was, and adds what is new."""
        self.spent_s = self.spent_s * share + newer.spent_s
        self.worked_s = self.worked_s * share + newer.worked_s
        self.answers = self.answers * share + newer.answers
        self.failures = self.failures * share + newer.failures


class LoadReport:
    """Follows the calls of one server. Times are of one monotonic clock, in seconds."""

    def __init__(self, after_s: float, over_s: float) -> None:
        """Tells nothing in the first `after_s` seconds of calls; sums fade over `over_s`, > 0."""
        self._after_s = after_s
        self._over_s = over_s
        self._entries: Entries = ()
        self._is_warm = False
        self._renew_at = -math.inf  # before the first call
        self._renewed = 0.0
        self._in_air = 0
        self._sums, self._new = _Sums(), _Sums()

    def begin(self, now: float) -> None:
        """Notes that a call begins."""
        if self._renew_at == -math.inf:
            self._renewed, self._renew_at = now, now + self._after_s
        self._in_air += 1
        self._new.spent_s += self._renewed - now  # until its end, or the next renewal, is added

    def end(self, now: float, code: grpc.StatusCode, lasted_s: float, queued_s: float) -> Entries:
        """Notes that a call has ended; returns what its trailers are to say.

        It was here for `lasted_s`, of that in queues for `queued_s`; more than the whole if its
        parts waited side by side, which tells nothing. A call whose caller has left is `CANCELLED`:
        its time counts, and nothing else.
        """
        new = self._new
        self._in_air -= 1
        new.spent_s += now - self._renewed
        if code is not grpc.StatusCode.CANCELLED:
            new.worked_s += lasted_s - queued_s if queued_s < lasted_s else lasted_s
            if code is not _OK and code in _OWN_FAULTS:  # most are: Python hashes a code's name
                new.failures += 1
            else:
                new.answers += 1  # a caller's mistake, too
        if now >= self._renew_at:
            self._renew(now)
        return self._entries

    def _renew(self, now: float) -> None:
        if self._is_warm:
            passed_s = now - self._renewed
            self._new.spent_s += self._in_air * passed_s
            self._sums.fade(math.exp(-passed_s / self._over_s), self._new)
            self._entries = _told(self._sums, self._over_s)
        self._is_warm, self._new = True, _Sums()  # what was before is forgotten
        self._renewed, self._renew_at = now, now + RENEWED_AFTER_S


def _told(sums: _Sums, over_s: float) -> Entries:
    calls = sums.answers + sums.failures
    answers = max(sums.answers, calls / _MOST_CALLS_AN_ANSWER)
    if answers < _LEAST_CALLS:
        return ()
    tries = 1 + sums.failures / answers  # each as long as an answer
    time_s = max(_LEAST_S, sums.spent_s / answers * tries)
    work_s = max(_LEAST_S, sums.worked_s / answers * tries)
    rps = calls / over_s
    report = type_pb2.LoadReport(rps_fractional=rps, application_utilization=rps * time_s * work_s)
    return ((LOAD_REPORT_KEY, report.SerializeToString()),)
