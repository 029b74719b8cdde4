import os
import signal
import socket
import sys
from pathlib import Path

from tiny_servers import sleeping_child

from cluster.procfs import ProcessId, command_line, holder_of, start_time


def test_the_process_that_listens_on_a_port_is_found() -> None:
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        listener.listen()
        port = listener.getsockname()[1]
        assert holder_of(port) == os.getpid()
    assert holder_of(port) is None


def test_a_pid_given_to_another_process_is_not_signalled() -> None:
    with sleeping_child() as child:
        earlier = ProcessId(child.pid, ProcessId.of(child.pid).start_time - 1)
        assert not earlier.is_running()
        assert earlier.send(signal.SIGKILL) is False
        assert child.poll() is None
        assert ProcessId.of(child.pid).send(signal.SIGKILL)
    assert child.returncode == -signal.SIGKILL


def test_a_process_that_is_waited_for_is_reported_as_ended() -> None:
    with sleeping_child() as child:
        process = ProcessId.of(child.pid)
        assert not process.wait(0.0)
        child.kill()
        assert process.wait(30.0)
    assert not process.is_running()
    assert not process.send(signal.SIGTERM)


def test_a_name_with_brackets_and_spaces_does_not_hide_the_start_time(tmp_path: Path) -> None:
    odd = tmp_path / "a) R 1 (b"
    odd.symlink_to(sys.executable)
    with sleeping_child(odd) as child:
        assert start_time(child.pid) is not None
        assert odd.name in command_line(child.pid)
