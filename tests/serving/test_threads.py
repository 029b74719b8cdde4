import os
import threading
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path

import pytest

from serving.rpc.threads import started_patient
from tests.serving.oip.serve_process import serve
from tests.serving.tiny_models import write_linear


@contextmanager
def idle_thread(policy: int | None = None) -> Iterator[threading.Thread]:
    """A thread that waits until the block ends, under a policy of its own if one is given."""
    end, begun = threading.Event(), threading.Event()

    def wait() -> None:
        if policy is not None:
            os.sched_setscheduler(0, policy, os.sched_param(0))
        begun.set()
        end.wait()

    thread = threading.Thread(target=wait)
    thread.start()
    begun.wait()
    try:
        yield thread
    finally:
        end.set()
        thread.join()


def policy_of(thread: threading.Thread) -> int:
    assert thread.native_id
    return os.sched_getscheduler(thread.native_id)


def policies_of(pid: int) -> dict[bool, list[int]]:
    """Returns the policies of a process's threads, in the order of their ages, and whose they are.

    By whether they are Python's, whose names are that of the event loop's.
    """
    policies: dict[bool, list[int]] = {True: [], False: []}
    tasks = Path(f"/proc/{pid}/task")
    loop = (tasks / str(pid) / "comm").read_text()
    for task in sorted(tasks.iterdir(), key=lambda task: int(task.name)):
        is_python = (task / "comm").read_text() == loop
        policies[is_python].append(os.sched_getscheduler(int(task.name)))
    return policies


def test_threads_started_within_are_patient_and_no_others() -> None:
    with ExitStack() as stack:
        before = stack.enter_context(idle_thread())
        with started_patient():
            within = stack.enter_context(idle_thread())
        after = stack.enter_context(idle_thread())
        policies = [policy_of(thread) for thread in (before, within, after)]
    assert policies == [os.SCHED_OTHER, os.SCHED_BATCH, os.SCHED_OTHER]
    assert os.sched_getscheduler(0) == os.SCHED_OTHER


def test_a_thread_with_a_policy_of_its_own_keeps_it() -> None:
    with ExitStack() as stack:
        with started_patient():
            within = stack.enter_context(idle_thread(os.SCHED_IDLE))
        assert policy_of(within) == os.SCHED_IDLE


def test_a_thread_that_has_ended_and_a_system_that_forbids_it_cost_nothing(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    def forbidden(*_: object) -> None:
        raise PermissionError

    monkeypatch.setattr(os, "sched_setscheduler", forbidden)
    with ExitStack() as stack:
        with started_patient():
            with idle_thread():
                pass
            within = stack.enter_context(idle_thread())
        assert policy_of(within) == os.SCHED_OTHER


async def test_of_a_server_the_thread_that_wakes_the_event_loop_is_patient_alone(
    tmp_path: Path,
) -> None:
    (tmp_path / "linear" / "1").mkdir(parents=True)
    write_linear(tmp_path / "linear" / "1" / "model.onnx")
    async with serve(tmp_path) as served:
        policies = policies_of(served.process.pid)
    python, grpc_core = policies[True], policies[False]
    assert python[0] == os.SCHED_OTHER  # the event loop
    assert python.count(os.SCHED_BATCH) == 1
    assert python.count(os.SCHED_OTHER) >= 3  # the engine's and the metrics' as well
    assert {*grpc_core} == {os.SCHED_OTHER}
