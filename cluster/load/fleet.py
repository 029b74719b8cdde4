"""Several client processes as one client: the schedule is dealt out, the outcomes are joined.

One Python process sends some thousands of calls a second; a schedule beyond that needs more.
"""

import multiprocessing
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from multiprocessing.connection import Connection, wait
from multiprocessing.context import SpawnProcess
from types import TracebackType
from typing import Self

from cluster.errors import CommandError
from cluster.load import worker
from cluster.load.arrivals import Offsets, share
from cluster.load.outcomes import Outcomes, join
from cluster.load.targets import Target

LEAD_S = 0.1  # from handing out a schedule to its start
_READY_S = 30.0

Watch = Callable[[int, int], None]
"""Told now and then how many calls were sent and how many have ended."""


@dataclass(slots=True)
class Fleet:
    """Client processes with open channels; a context manager. Measures one schedule at a time."""

    target: Target
    processes: int = 1
    _children: list[SpawnProcess] = field(default_factory=list)
    _pipes: list[Connection] = field(default_factory=list)

    def __enter__(self) -> Self:
        context = multiprocessing.get_context("spawn")  # gRPC does not survive a fork
        for _ in range(self.processes):
            ours, theirs = context.Pipe()
            child = context.Process(target=worker.serve, args=(self.target, theirs), daemon=True)
            child.start()
            theirs.close()
            self._children.append(child)
            self._pipes.append(ours)
        if not all(map(_is_ready, self._pipes)):
            for child in self._children:
                child.kill()
            raise CommandError("a client process did not start")
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        for pipe in self._pipes:
            pipe.close()
        for child in self._children:
            if error is not None:
                child.terminate()
            child.join()

    def measure(
        self, offsets: Offsets, timeout_s: float, watch: Watch = lambda sent, done: None
    ) -> tuple[Outcomes, float]:
        """Runs a schedule; returns what became of it and the cores that the client used."""
        start = time.monotonic() + LEAD_S
        for index, pipe in enumerate(self._pipes):
            part = share(offsets, index, self.processes)
            pipe.send(worker.Job(part, timeout_s, start, index, self.processes))
        finished = self._collect(watch)
        wall = time.monotonic() - start
        return join([f.outcomes for f in finished]), sum(f.cpu_s for f in finished) / wall

    def _collect(self, watch: Watch) -> list[worker.Finished]:
        told = {pipe: worker.Progress(0, 0) for pipe in self._pipes}
        finished: dict[Connection, worker.Finished] = {}
        while len(finished) < len(self._pipes):
            for pipe in wait([p for p in self._pipes if p not in finished]):
                assert isinstance(pipe, Connection)
                try:
                    message = pipe.recv()
                except EOFError:
                    raise CommandError("a client process died") from None
                if isinstance(message, worker.Finished):
                    finished[pipe] = message
                else:
                    told[pipe] = message
                    watch(sum(t.sent for t in told.values()), sum(t.done for t in told.values()))
        return [finished[pipe] for pipe in self._pipes]


def _is_ready(pipe: Connection) -> bool:
    try:
        return pipe.poll(_READY_S) and pipe.recv() == "ready"
    except EOFError:  # it ended instead
        return False
