"""A client that costs a tenth of gRPC's, for servers of tiny models: it leaves the cores to them.

Beside a tiny model the Python client needs as much CPU as the server, so that on the same cores an
overload stops the client before it stops the server. This one writes HTTP/2 itself. It does what a
caller would see of gRPC's client: it tells the server the deadline, cancels a call that reaches it,
and lets a call wait while the server takes no more.
"""

import select
import struct
import time
from collections import deque
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from typing import Self

from bench.rivals.http2 import Connection
from cluster.load.arrivals import Offsets
from cluster.load.outcomes import CODES, OK, Outcomes

CONNECTIONS = 2
_LATE = CODES.index("DEADLINE_EXCEEDED")
_OPEN = -1  # the status of a call that has not ended
_TIMEOUT_S = 10.0  # of a closed loop's calls


class LeanClient:
    """Calls one method of one server; used by one thread."""

    processes = 1

    def __init__(self, connections: Sequence[Connection], requests: Sequence[bytes]) -> None:
        self._connections = connections
        self._messages = [b"\0" + struct.pack(">I", len(request)) + request for request in requests]

    @classmethod
    @contextmanager
    def open(cls, address: str, method: str, requests: Sequence[bytes]) -> Iterator[Self]:
        """Connects. `requests` are serialized messages of at most 16 kB, asked in turns."""
        with ExitStack() as stack:
            connections = [Connection.open(address, method) for _ in range(CONNECTIONS)]
            for connection in connections:
                stack.enter_context(connection.peer)
            yield cls(connections, requests)

    def rate(self, callers: int, seconds: float, warm_up_s: float = 0.5) -> float:
        """Returns how many answers a second `callers` get who ask again at once."""
        begin = time.monotonic() + warm_up_s
        sent = ended = answered = 0
        now = 0.0
        while now < begin + seconds:
            while sent - ended < callers and self.send(sent, _TIMEOUT_S):
                sent += 1
            seen = self.ended(0.1)
            now = time.monotonic()
            ended += len(seen)
            answered += sum(status == OK for _, status in seen) if now >= begin else 0
        for connection in self._connections:
            connection.cancel_all()
        return answered / seconds

    def measure(self, offsets: Offsets, timeout_s: float) -> tuple[Outcomes, float]:
        """Runs a schedule; returns what became of it and the cores that it took here.

        A call's deadline is its intended time plus the timeout.
        """
        cpu, start = time.process_time(), time.monotonic()
        outcomes = _Schedule(self, offsets, timeout_s).run()
        return outcomes, (time.process_time() - cpu) / (time.monotonic() - start)

    def send(self, call: int, timeout_s: float) -> tuple[Connection, int] | None:
        """Begins a call; returns its connection and stream, None when no server takes it now."""
        message = self._messages[call % len(self._messages)]
        for shift in range(len(self._connections)):
            connection = self._connections[(call + shift) % len(self._connections)]
            if connection.has_room(len(message)):
                return connection, connection.send(call, message, timeout_s)
        return None

    def ended(self, wait_s: float) -> list[tuple[int, int]]:
        """Writes what is to be written and waits for answers; returns calls and their statuses."""
        for connection in self._connections:
            connection.flush()
        stuck = [connection for connection in self._connections if connection.out]
        readable, _, _ = select.select(self._connections, stuck, [], max(0.0, wait_s))
        return [item for connection in readable for item in connection.receive()]


class _Schedule:
    """Sends each call at its time, answered or not what came before."""

    def __init__(self, client: LeanClient, offsets: Offsets, timeout_s: float) -> None:
        self._client, self._timeout_s = client, timeout_s
        self._outcomes = Outcomes.of(offsets)
        self._offsets: list[float] = offsets.tolist()
        self._due = 0  # so many calls have been due
        self._expired = 0  # so many have reached their deadline
        self._held: deque[int] = deque()  # due, and taken by no connection yet
        self._streams: dict[int, tuple[Connection, int]] = {}  # of the calls that were sent

    def run(self) -> Outcomes:
        start, left, now = time.monotonic(), len(self._offsets), 0.0
        while left:
            self._send(now)
            left -= self._expire(now)
            ended = self._client.ended(self._next() - now if left else 0.0)
            now = time.monotonic() - start
            for call, status in ended:
                self._end(call, status, now)
            left -= len(ended)
        return self._outcomes

    def _next(self) -> float:
        """Returns when something is to be done unless an answer comes first."""
        expiry = self._offsets[self._expired] + self._timeout_s
        return min([expiry, *self._offsets[self._due : self._due + 1]])

    def _send(self, now: float) -> None:
        while self._due < len(self._offsets) and self._offsets[self._due] <= now:
            self._held.append(self._due)
            self._due += 1
        while self._held:
            call = self._held[0]
            left = self._offsets[call] + self._timeout_s - now
            if left > 0:
                taken = self._client.send(call, left)
                if taken is None:
                    return
                self._streams[call] = taken
                self._outcomes.sent[call] = now
            self._held.popleft()

    def _expire(self, now: float) -> int:
        """Ends the calls that have reached their deadline; returns how many."""
        before, ended = now - self._timeout_s, 0
        while self._expired < len(self._offsets) and self._offsets[self._expired] <= before:
            call, self._expired = self._expired, self._expired + 1
            if self._outcomes.status[call] == _OPEN:
                connection, stream = self._streams.get(call, (None, 0))
                if connection:
                    connection.cancel(stream)
                self._end(call, _LATE, now)
                ended += 1
        return ended

    def _end(self, call: int, status: int, now: float) -> None:
        self._outcomes.ended[call] = now
        self._outcomes.status[call] = status
        self._streams.pop(call, None)
