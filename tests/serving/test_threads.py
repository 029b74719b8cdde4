import os
import threading
from collections.abc import Callable
from pathlib import Path
from typing import TypeVar

import pytest

from serving.rpc.threads import started_patient
from tests.serving.oip.serve_process import serve
from tests.serving.tiny_models import write_linear

Result = TypeVar("Result")
LOOP = "event loop and other threads of Python"


def own_policy() -> int:
    return os.sched_getscheduler(0)


def in_a_thread(do: Callable[[], Result]) -> Result:
    found: list[Result] = []
    thread = threading.Thread(target=lambda: found.append(do()))
    thread.start()
    thread.join()
    return found[0]


def policies_of(pid: int) -> dict[str, list[int]]:
    """Returns the policies of a process's threads by name, Python's as `LOOP`."""
    policies: dict[str, list[int]] = {}
    tasks = Path(f"/proc/{pid}/task")
    loop = (tasks / str(pid) / "comm").read_text()
    for task in sorted(tasks.iterdir(), key=lambda task: int(task.name)):
        name = (task / "comm").read_text()
        kind = LOOP if name == loop else name.strip()
        policies.setdefault(kind, []).append(os.sched_getscheduler(int(task.name)))
    return policies


def test_threads_started_within_and_those_they_start_are_patient_and_no_other() -> None:
    with started_patient():
        child, grandchild = in_a_thread(lambda: (own_policy(), in_a_thread(own_policy)))
    assert (child, grandchild) == (os.SCHED_BATCH, os.SCHED_BATCH)
    assert own_policy() == os.SCHED_OTHER
    assert in_a_thread(own_policy) == os.SCHED_OTHER


def test_an_error_within_leaves_the_thread_as_it_was() -> None:
    with pytest.raises(RuntimeError), started_patient():
        raise RuntimeError
    assert own_policy() == os.SCHED_OTHER


def test_a_policy_that_the_operator_has_set_stays() -> None:
    def idle() -> tuple[int, int]:
        os.sched_setscheduler(0, os.SCHED_IDLE, os.sched_param(0))
        with started_patient():
            return own_policy(), in_a_thread(own_policy)

    assert in_a_thread(idle) == (os.SCHED_IDLE, os.SCHED_IDLE)


def test_a_system_that_forbids_it_costs_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    def forbidden(*_: object) -> None:
        raise PermissionError

    monkeypatch.setattr(os, "sched_setscheduler", forbidden)
    with started_patient():
        assert in_a_thread(own_policy) == os.SCHED_OTHER


async def test_all_threads_of_grpc_are_patient_and_neither_the_loop_nor_an_engine(
    tmp_path: Path,
) -> None:
    (tmp_path / "linear" / "1").mkdir(parents=True)
    write_linear(tmp_path / "linear" / "1" / "model.onnx")
    async with serve(tmp_path) as served:
        policies = policies_of(served.process.pid)
    assert {*policies.pop("event_engine")} == {os.SCHED_BATCH}
    python = policies[LOOP]
    # The one that wakes the event loop; the loop, the engine's and the metrics' are as usual.
    assert python.count(os.SCHED_BATCH) == 1
    assert python.count(os.SCHED_OTHER) >= 3
    assert python[0] == os.SCHED_OTHER
