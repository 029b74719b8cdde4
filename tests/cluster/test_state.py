import os
from pathlib import Path

import pytest
from tiny_servers import sleeping_child

from cluster.errors import CommandError
from cluster.procfs import ProcessId
from cluster.state import ClusterState, ServerState, only_one, read_state


def state_of(supervisor: ProcessId, **servers: ProcessId) -> ClusterState:
    known = {name: ServerState(process, restarts=2) for name, process in servers.items()}
    return ClusterState(supervisor, 50050, 9050, known)


def test_a_state_is_read_as_it_was_written(tmp_path: Path) -> None:
    state = state_of(ProcessId(1, 2), clip=ProcessId(3, 4))
    state.write(tmp_path)
    assert read_state(tmp_path) == state


@pytest.mark.parametrize("text", ["", "{", "[]", '{"supervisor": 3}'])
def test_a_state_file_that_is_no_state_is_as_good_as_none(tmp_path: Path, text: str) -> None:
    (tmp_path / "cluster.json").write_text(text)
    assert read_state(tmp_path) is None


def test_a_second_cluster_is_refused_while_the_first_holds_the_lock(tmp_path: Path) -> None:
    with only_one(tmp_path):
        state_of(ProcessId.of(os.getpid())).write(tmp_path)
        with (
            pytest.raises(CommandError, match=rf"already runs here \(supervisor {os.getpid()}\)"),
            only_one(tmp_path),
        ):
            pass
    with only_one(tmp_path):
        pass


def test_servers_are_orphans_only_when_their_supervisor_is_gone() -> None:
    me = ProcessId.of(os.getpid())
    gone = ProcessId(me.pid, me.start_time - 1)
    with sleeping_child() as child:
        server = ProcessId.of(child.pid)
        assert state_of(me, clip=server).orphans() == {}
        assert state_of(gone, clip=server, text=gone).orphans() == {"clip": server}
