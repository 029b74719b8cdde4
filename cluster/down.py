"""`fomofeed down`: stops the cluster that `up` started, and what a killed one left behind."""

import signal
from collections.abc import Callable
from pathlib import Path

from cluster.procfs import ProcessId
from cluster.state import ClusterState, forget_state, read_state

SUPERVISOR_GRACE_S = 90.0  # the gateway's drain, then that of the others, each at most 35 s
KILL_GRACE_S = 5.0


def run_down(folder: Path, say: Callable[[str], None]) -> None:
    """Stops everything that the state file names; says what it did."""
    state = read_state(folder)
    if state is None or not (state.is_running() or state.orphans()):
        say("no cluster runs here")
        forget_state(folder)
        return
    if state.is_running():
        _stop_supervisor(state, say)
    left_over = (read_state(folder) or state).orphans()
    for name, process in left_over.items():
        say(f"{name} (process {process.pid}) was left over: stopped")
        _end(process)
    forget_state(folder)
    say("the cluster is down")


def _stop_supervisor(state: ClusterState, say: Callable[[str], None]) -> None:
    say(f"stopping the servers of supervisor {state.supervisor.pid}")
    state.supervisor.send(signal.SIGTERM)
    if not state.supervisor.wait(SUPERVISOR_GRACE_S):
        say("the supervisor does not end: killed")
        state.supervisor.send(signal.SIGKILL)
        state.supervisor.wait(KILL_GRACE_S)


def _end(process: ProcessId) -> None:
    process.send(signal.SIGTERM)
    if not process.wait(KILL_GRACE_S):
        process.send(signal.SIGKILL)
        process.wait(KILL_GRACE_S)
