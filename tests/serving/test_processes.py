"""Processes beside the server: what they answer, and what their end costs."""

import asyncio
import os
import signal
import subprocess
import sys
import time
from collections.abc import Generator
from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray

from serving import process, processes, request
from serving.arena import HALF_BYTES
from serving.errors import (
    DeadlineError,
    EngineError,
    InvalidRequestError,
    NotReadyError,
    QueueFullError,
    Violation,
)
from serving.processes import Processes


def pid_after(mark: str) -> int:
    Path(mark).touch()
    return os.getpid()


def refuse(field: str) -> None:
    raise InvalidRequestError(Violation(field, "7", "at most 6"))


class OddError(Exception):
    """Its pickle cannot be read again."""

    def __init__(self, one: int, other: int) -> None:
        super().__init__("odd")


def be_odd() -> None:
    raise OddError(1, 2)


def end_of_file() -> None:
    raise EOFError("a short file")


def count_to(most: int, mark: str = "") -> Generator[int, None, str]:
    """With a mark, ends its process half way, the first time."""
    for number in range(most):
        yield number
        if mark and number == most // 2 and not Path(mark).exists():
            pid_after(mark)
            os.kill(os.getpid(), signal.SIGKILL)
    return "all"


def stopped(gate: Path, mark: Path) -> Generator[None, None, None]:
    yield
    gate.read_bytes()  # until somebody writes
    yield
    mark.touch()


def both_kinds(content: bytes) -> tuple[bytes, NDArray[np.uint8]]:
    assert type(content) is bytes
    return content, np.frombuffer(content * 2, np.uint8)


def end() -> None:
    os._exit(1)


async def test_work_is_done_elsewhere_and_its_time_is_in_the_ledger() -> None:
    facts = request.CallFacts()
    request.enter(facts)
    async with Processes("tests", 1, max_waiting=1) as pool:
        first, second = await pool.run(os.getpid), await pool.run(os.getpid)
    assert first == second != os.getpid()
    assert facts.ledger.preprocess_s > 0


async def test_parts_are_heard_before_the_answer() -> None:
    heard: list[int] = []
    async with Processes("tests", 1, 1) as pool:
        assert await pool.follow(heard.append, count_to, 3) == "all"
    assert heard == [0, 1, 2]


async def test_errors_reach_the_caller_whole() -> None:
    async with Processes("tests", 1, 1) as pool:
        pid = await pool.run(os.getpid)
        with pytest.raises(InvalidRequestError, match="side is 7, at most 6") as refused:
            await pool.run(refuse, "side")
        with pytest.raises(EOFError, match="a short file"):
            await pool.run(end_of_file)
        with pytest.raises(RuntimeError, match="OddError: odd"):
            await pool.run(be_odd)
        with pytest.raises(ZeroDivisionError):
            await pool.follow(lambda part: part // 0, count_to, 5)
        assert await pool.run(int) == 0  # and not what was left of that
        assert await pool.run(os.getpid) == pid
    assert refused.value.violations == (Violation("side", "7", "at most 6"),)
    assert "in refuse" in refused.value.__notes__[0]


async def test_a_killed_process_costs_nobody_his_answer(tmp_path: Path) -> None:
    heard: list[int] = []
    async with Processes("tests", 1, 1) as pool:
        pid = await pool.run(os.getpid)
        os.kill(pid, signal.SIGKILL)
        assert await pool.run(os.getpid) != pid
        mark = str(tmp_path / "begun")
        assert await pool.follow(heard.append, count_to, 5, mark) == "all"
    assert heard == [0, 1, 2, 3, 4]  # each once, though it was begun twice


async def test_work_that_ends_its_process_fails_alone() -> None:
    async with Processes("tests", 2, 8) as pool:
        answers = await asyncio.gather(
            pool.run(end), *(pool.run(int) for _ in range(4)), return_exceptions=True
        )
    assert isinstance(answers[0], EngineError)
    assert str(answers[0]) == "tests: the process ended 2 times"
    assert answers[1:] == [0] * 4


async def test_a_process_that_hangs_is_replaced(monkeypatch: pytest.MonkeyPatch) -> None:
    async with Processes("tests", 1, 1) as pool:
        await pool.run(int)
        monkeypatch.setattr(process, "LIMIT_S", 0.05)
        with pytest.raises(EngineError, match="no answer from a process in 0"):
            await pool.run(time.sleep, 60)
        monkeypatch.setattr(process, "LIMIT_S", 30.0)
        assert await pool.run(int) == 0


async def test_work_waits_until_a_process_can_be_started(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(processes, "_PAUSE_S", 0.01)
    async with Processes("tests", 1, 1) as pool:
        with monkeypatch.context() as patch:
            patch.setattr(process.sys, "executable", "/nowhere")
            os.kill(await pool.run(os.getpid), signal.SIGKILL)
            waiting = asyncio.create_task(pool.run(int))
            while caplog.text.count("no new process could be started") < 2:  # noqa: ASYNC110 # nobody tells of a start that failed but the log
                await asyncio.sleep(0)
            assert not waiting.done()
        assert await waiting == 0


async def test_late_work_and_work_of_a_caller_who_has_gone_is_not_done(tmp_path: Path) -> None:
    marks = [tmp_path / name for name in ("gone", "late", "half")]
    os.mkfifo(gate := tmp_path / "gate")
    async with Processes("tests", 1, 9) as pool:
        half = asyncio.create_task(pool.follow(lambda _: half.cancel(), stopped, gate, marks[2]))
        gone = asyncio.create_task(pool.run(marks[0].touch))
        await asyncio.sleep(0)
        request.enter(request.CallFacts(deadline=asyncio.get_running_loop().time()))
        late = asyncio.create_task(pool.run(marks[1].touch))
        await asyncio.sleep(0)
        gone.cancel()
        await asyncio.wait([half])
        gate.write_bytes(b"")
        with pytest.raises(DeadlineError):
            await late
        assert half.cancelled() and gone.cancelled()
    assert not [mark for mark in marks if mark.exists()]


async def test_who_still_waits_when_the_pool_ends_is_cancelled(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(process, "_END_S", 0.1)
    os.mkfifo(gate := tmp_path / "gate")  # nobody writes: its reader is stopped in the end
    async with Processes("tests", 1, 1) as pool:
        pid = await pool.run(os.getpid)
        asking = [asyncio.create_task(pool.run(gate.read_bytes)) for _ in range(2)]
        await asyncio.sleep(0)
    await asyncio.wait(asking)
    assert all(task.cancelled() for task in asking)
    with pytest.raises(NotReadyError):
        await pool.run(int)
    with pytest.raises(ProcessLookupError):
        os.kill(pid, 0)


async def test_what_cannot_travel_is_its_callers_error() -> None:
    async with Processes("tests", 1, 1) as pool:
        with pytest.raises(AttributeError, match="pickle"):
            await pool.run(lambda: 0)
        assert await pool.run(int) == 0


async def test_bytes_and_arrays_of_any_size_arrive() -> None:
    async with Processes("tests", 1, 1) as pool:
        for size in (0, 1, 4095, 4096, 1_000_000, HALF_BYTES, HALF_BYTES + 1):
            content = bytes([size % 251]) * size
            answer, array = await pool.run(both_kinds, content)
            await pool.run(both_kinds, bytes(size))  # over the same memory
            assert answer == content
            assert array.tobytes() == content * 2


async def test_more_than_may_wait_is_refused(tmp_path: Path) -> None:
    async with Processes("tests", 1, max_waiting=1) as pool:
        held = [asyncio.create_task(pool.run(pid_after, str(tmp_path / "x"))) for _ in range(2)]
        await asyncio.sleep(0)
        with pytest.raises(QueueFullError, match="tests is full: 1 waiting"):
            await pool.run(int)
        await asyncio.gather(*held)
        assert await pool.run(int) == 0


async def test_a_request_to_end_is_the_servers_to_hear() -> None:
    async with Processes("tests", 1, 1) as pool:
        pid = await pool.run(os.getpid)
        os.kill(pid, signal.SIGTERM)
        assert await pool.run(os.getpid) == pid
        assert os.getpgid(pid) != os.getpgid(0)  # nor does it hear ctrl-C
    with pytest.raises(ProcessLookupError):
        os.kill(pid, 0)


_SERVER = """
import asyncio, os
from serving.processes import Processes

async def main():
    async with Processes("tests", 1, 1) as pool:
        print(await pool.run(os.getpid), flush=True)
        await asyncio.sleep(60)

asyncio.run(main())
"""


def test_processes_end_with_a_server_that_is_killed() -> None:
    server = subprocess.Popen(
        [sys.executable, "-c", _SERVER],
        env={**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)},
        stdout=subprocess.PIPE,
    )
    assert server.stdout
    with server.stdout as said:
        said.readline()
        server.kill()
        server.wait()
        assert said.read() == b""  # the end: nobody else holds the pipe any more
