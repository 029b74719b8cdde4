"""One client process: it opens its channel once, then runs schedules as they come over a pipe."""

import asyncio
import gc
import time
from dataclasses import dataclass
from multiprocessing.connection import Connection

import grpc

from cluster.load.arrivals import Offsets
from cluster.load.client import Call, OpenLoop, fine_loop
from cluster.load.outcomes import Outcomes
from cluster.load.targets import Target

PROGRESS_S = 0.25


@dataclass(frozen=True, slots=True)
class Job:
    """One process's share of a schedule. `start` is a time of the machine's monotonic clock."""

    offsets: Offsets
    timeout_s: float
    start: float
    first_index: int
    index_step: int


@dataclass(frozen=True, slots=True)
class Progress:
    """Sent while a schedule runs."""

    sent: int
    done: int


@dataclass(frozen=True, slots=True)
class Finished:
    """Sent at its end; the CPU seconds are those of the whole process, gRPC's threads included."""

    outcomes: Outcomes
    cpu_s: float


def serve(target: Target, pipe: Connection) -> None:
    """Runs jobs until the pipe closes; says "ready" once when the first can come."""
    with asyncio.Runner(loop_factory=fine_loop) as runner:
        channel, call = runner.run(_open(target))
        gc.freeze()  # what was imported is not looked at again: shorter pauses
        pipe.send("ready")
        try:
            while isinstance(job := pipe.recv(), Job):
                pipe.send(runner.run(_run(job, call, pipe)))
        except (EOFError, BrokenPipeError, KeyboardInterrupt):
            pass  # the parent has gone, or the person pressed Ctrl-C: nobody wants the figures
        runner.run(channel.close())


async def _open(target: Target) -> tuple[grpc.aio.Channel, Call]:
    return target.open()


async def _run(job: Job, call: Call, pipe: Connection) -> Finished:
    loop = OpenLoop(
        call, job.offsets, job.timeout_s, first_index=job.first_index, index_step=job.index_step
    )
    cpu = time.process_time()
    async with asyncio.TaskGroup() as group:
        telling = group.create_task(_tell(loop, pipe))
        outcomes = await loop.run(job.start)
        telling.cancel()
    return Finished(outcomes, time.process_time() - cpu)


async def _tell(loop: OpenLoop, pipe: Connection) -> None:
    while True:
        await asyncio.sleep(PROGRESS_S)
        pipe.send(Progress(loop.sent, loop.done))
